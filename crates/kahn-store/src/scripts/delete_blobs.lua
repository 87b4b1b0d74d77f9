-- Removes blobs and their names.
-- KEYS: m, blobs, then one key per blob   ARGV: fence, then one name per blob
local f = redis.call('HGET', KEYS[1], 'f')
if f ~= ARGV[1] then return {'FENCED', f or ''} end
for i = 3, #KEYS do
  redis.call('UNLINK', KEYS[i])
  redis.call('SREM', KEYS[2], ARGV[i - 1])
end
return {'OK'}
