-- Extends the lease, even after it expired if nobody else took it, and returns the head.
-- KEYS: m, lease   ARGV: fence, ttl in ms
local m = redis.call('HMGET', KEYS[1], 'f', 's', 'h', 'o')
if m[1] ~= ARGV[1] then return {'FENCED', m[1] or ''} end
redis.call('SET', KEYS[2], m[4], 'PX', ARGV[2])
return {'OK', m[2] or '0', m[3] or ''}
