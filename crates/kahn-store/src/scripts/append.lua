-- Appends one entry, and the blobs it refers to, if the head is the one that the writer expects.
-- KEYS: m, log, blobs, then one key per blob
-- ARGV: fence, prev seq, prev hash, next seq, next hash, payload, then name and bytes per blob
-- All checks come first: a script is atomic, but it is not rolled back.
-- Every answer that tells what the log holds follows a write, even if it changes nothing, because
-- waiting for replicas covers only what was written over the same connection.
local m = redis.call('HMGET', KEYS[1], 'f', 's', 'h')
if m[1] ~= ARGV[1] then return {'FENCED', m[1] or ''} end
local s, h = m[2] or '0', m[3] or ''
if s == ARGV[2] and h == ARGV[3] then
  for i = 4, #KEYS do
    local at = 7 + (i - 4) * 2
    redis.call('SET', KEYS[i], ARGV[at + 1])
    redis.call('SADD', KEYS[3], ARGV[at])
  end
  redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'h', ARGV[5], 'b', ARGV[6])
  redis.call('HSET', KEYS[1], 's', ARGV[4], 'h', ARGV[5])
  return {'OK'}
end
redis.call('HSET', KEYS[1], 'f', m[1])
if s == ARGV[4] and h == ARGV[5] then return {'DUP'} end
return {'HEAD', s, h}
