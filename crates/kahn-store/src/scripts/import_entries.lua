-- Appends entries. Those that are there already are skipped, so that the call can be repeated.
-- KEYS: m, log   ARGV: nonce, then seq, hash and payload per entry
local m = redis.call('HMGET', KEYS[1], 'r', 's')
if m[1] ~= ARGV[1] then return {'FENCED'} end
local head = tonumber(m[2] or '0')
for i = 2, #ARGV, 3 do
  if head < tonumber(ARGV[i]) then
    redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 'h', ARGV[i + 1], 'b', ARGV[i + 2])
    redis.call('HSET', KEYS[1], 's', ARGV[i], 'h', ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'r', ARGV[1])
return {'OK'}
