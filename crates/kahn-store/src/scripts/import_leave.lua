-- Ends an import in a partition after the store has become complete.
-- KEYS: m   ARGV: nonce
local r = redis.call('HGET', KEYS[1], 'r')
if r ~= ARGV[1] and r ~= '' then return {'FENCED'} end
redis.call('HSET', KEYS[1], 'r', '')
return {'OK'}
