-- Names the cluster and fixes its size, unless that has been done; tells both.
-- KEYS: meta   ARGV: id, partitions
redis.call('HSETNX', KEYS[1], 'id', ARGV[1])
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2])
return redis.call('HMGET', KEYS[1], 'id', 'partitions')
