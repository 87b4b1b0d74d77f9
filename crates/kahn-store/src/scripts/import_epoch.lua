-- Ends the filling of a partition: no term begins in an epoch up to this one.
-- KEYS: m   ARGV: nonce, epoch
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'e', ARGV[2])
return {'OK'}
