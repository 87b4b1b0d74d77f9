-- Sets the id and size of the cluster unless they are set; returns both.
-- KEYS: meta   ARGV: id, partitions
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2])
return redis.call('HMGET', KEYS[1], 'id', 'partitions')
