-- Makes a partition that was filled part of the cluster.
-- KEYS: m   ARGV: nonce, id of the cluster
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'id', ARGV[2])
return {'OK'}
