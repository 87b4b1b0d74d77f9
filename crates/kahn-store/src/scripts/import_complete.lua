-- Makes the store one that can be opened. Its partitions are part of the cluster.
-- KEYS: meta   ARGV: 'restoring', nonce and id; id; partitions
local id = redis.call('HGET', KEYS[1], 'id')
if id ~= ARGV[1] and id ~= ARGV[2] then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'partitions', ARGV[3], 'complete', '1')
return {'OK'}
