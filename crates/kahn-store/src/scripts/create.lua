-- Sets the id and size of the cluster unless they are set; returns both, and whether it is complete.
-- It writes in any case, so that waiting for replicas covers what it returns.
-- KEYS: meta   ARGV: id, partitions
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2])
local m = redis.call('HMGET', KEYS[1], 'id', 'partitions', 'complete')
redis.call('HSET', KEYS[1], 'id', m[1])
return {m[1], m[2], m[3] or ''}
