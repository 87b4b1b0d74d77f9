-- Notes that all partitions have the id of the cluster.
-- KEYS: meta
redis.call('HSET', KEYS[1], 'complete', '1')
return {'OK'}
