-- Begins a term, unless another owner has renewed its lease in time and the claim does not cover it.
-- A lease is the nonce of its owner, in 16 digits, and the address of the owner.
-- A partition of another cluster, or of none, is refused: its log would be taken for an empty one.
-- KEYS: m, lease
-- ARGV: nonce, address, ttl in ms, claim: '' or an earlier nonce or 'force', id of the cluster
local id = redis.call('HGET', KEYS[1], 'id')
if id ~= ARGV[5] then return {'FOREIGN', id or ''} end
local lease = redis.call('GET', KEYS[2])
if lease and ARGV[4] ~= 'force' then
  local holder = string.sub(lease, 1, 16)
  if holder ~= ARGV[1] and holder ~= ARGV[4] then return {'HELD', lease} end
end
local own = ARGV[1] .. ' ' .. ARGV[2]
redis.call('SET', KEYS[2], own, 'PX', ARGV[3])
local epoch = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'e', 1))
local fence = epoch .. ':' .. ARGV[1]
-- Without the mark of its import, no other import may empty it.
redis.call('HSET', KEYS[1], 'f', fence, 'o', own, 'r', '')
local m = redis.call('HMGET', KEYS[1], 's', 'h')
return {'OK', fence, m[1] or '0', m[2] or ''}
