-- Sets the checkpoint and drops the entries it covers.
-- KEYS: m, log, checkpoint   ARGV: fence, seq, seq + 1, manifest
local f = redis.call('HGET', KEYS[1], 'f')
if f ~= ARGV[1] then return {'FENCED', f or ''} end
local id = ARGV[2] .. '-0'
local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
local hash
if entry then
  hash = entry[2][2]
else
  local c = redis.call('HMGET', KEYS[3], 's', 'h')
  if c[1] ~= ARGV[2] then return {'NOENTRY'} end
  hash = c[2]
end
redis.call('HSET', KEYS[3], 's', ARGV[2], 'h', hash, 'b', ARGV[4])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3] .. '-0')
return {'OK'}
