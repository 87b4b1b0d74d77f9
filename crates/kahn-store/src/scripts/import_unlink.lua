-- Removes blobs that an earlier import has left.
-- KEYS: m, blobs, then one key per blob   ARGV: nonce, then one name per blob
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return {'FENCED'} end
for i = 3, #KEYS do
  redis.call('UNLINK', KEYS[i])
  redis.call('SREM', KEYS[2], ARGV[i - 1])
end
redis.call('HSET', KEYS[1], 'r', ARGV[1])
return {'OK'}
