-- Makes the store one that is being filled, unless there is a cluster. The id is then no id, so that
-- no version opens the store. Returns the highest number of partitions of all attempts.
-- KEYS: meta   ARGV: 'restoring', nonce and id; partitions
local m = redis.call('HMGET', KEYS[1], 'id', 'partitions')
if m[1] and string.sub(m[1], 1, 10) ~= 'restoring ' then return {'OCCUPIED', m[1]} end
local n = ARGV[2]
if m[1] and tonumber(m[2]) > tonumber(n) then n = m[2] end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'partitions', n)
return {'OK', n}
