-- Writes the checkpoint. The log is empty.
-- KEYS: m, checkpoint   ARGV: nonce, seq, hash, manifest
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return {'FENCED'} end
redis.call('HSET', KEYS[2], 's', ARGV[2], 'h', ARGV[3], 'b', ARGV[4])
redis.call('HSET', KEYS[1], 's', ARGV[2], 'h', ARGV[3])
return {'OK'}
