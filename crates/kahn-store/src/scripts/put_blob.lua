-- Writes a blob and its name.
-- KEYS: blob, blobs   ARGV: name, bytes
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return {'OK'}
