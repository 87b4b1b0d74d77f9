-- Makes a partition part of a cluster, unless it is part of one; returns the id of its cluster.
-- It writes in any case, so that waiting for replicas covers what it returns.
-- KEYS: m   ARGV: id
local id = redis.call('HGET', KEYS[1], 'id') or ARGV[1]
redis.call('HSET', KEYS[1], 'id', id)
return id
