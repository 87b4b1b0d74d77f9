-- Writes blobs and their names.
-- KEYS: m, blobs, then one key per blob   ARGV: nonce, then name and bytes per blob
if redis.call('HGET', KEYS[1], 'r') ~= ARGV[1] then return {'FENCED'} end
for i = 3, #KEYS do
  local at = 2 + (i - 3) * 2
  redis.call('SET', KEYS[i], ARGV[at + 1])
  redis.call('SADD', KEYS[2], ARGV[at])
end
return {'OK'}
