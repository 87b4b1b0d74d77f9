-- Makes the partition available. The fence stays until it is acquired again.
-- KEYS: m, lease   ARGV: fence
if redis.call('HGET', KEYS[1], 'f') == ARGV[1] then redis.call('DEL', KEYS[2]) end
return {'OK'}
