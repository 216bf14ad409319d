-- enqueue: one job into one of Dramatiq's queues, under a name of ours, and a token that wakes an idle consumer.
-- KEYS list of ids, hash of messages, list of wake tokens   ARGV id, message, 'head' or 'tail', wake tokens kept
-- Returns 1, or 0 where a job of that name is waiting or being worked on: then nothing changes.
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call(ARGV[3] == 'head' and 'LPUSH' or 'RPUSH', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[3], '1')
redis.call('LTRIM', KEYS[3], -ARGV[4], -1)
return 1
