-- Begins a term, unless another owner has renewed in time and '1' to steal is not given.
-- KEYS: m, lease   ARGV: nonce, ttl in ms, '1' to steal
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] and ARGV[3] ~= '1' then return {'HELD', holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local epoch = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'e', 1))
local fence = epoch .. ':' .. ARGV[1]
redis.call('HSET', KEYS[1], 'f', fence)
local m = redis.call('HMGET', KEYS[1], 's', 'h')
return {'OK', fence, m[1] or '0', m[2] or ''}
