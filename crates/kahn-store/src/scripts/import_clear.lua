-- Empties a partition for an import, but for its blobs. One that belongs to a cluster is refused.
-- KEYS: m, log, lease, checkpoint   ARGV: nonce
local m = redis.call('HMGET', KEYS[1], 'id', 'r')
if m[1] and (m[2] or '') == '' then return {'OCCUPIED', m[1]} end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'r', ARGV[1])
return {'OK'}
