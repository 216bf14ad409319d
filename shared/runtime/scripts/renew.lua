-- renew: a worker extends the leases of its tasks in one bucket, or gives them back (lease_ms 0: a hand-over).
-- KEYS pending, task, task, ...   ARGV lease_ms, task_id, epoch, task_id, epoch, ...
-- Returns for each task 1 where the caller still holds it, 0 where it is fenced: ended, taken over, given back or gone.
-- What was given back stays so: a renewal that was under way meanwhile must not bring the lease back to life.
local now = now_ms()
local replies = {}
for i = 2, #KEYS do
  local task_id, epoch = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local held = redis.call('HMGET', KEYS[i], 'epoch', 'status', 'lease_ms')
  local given_back = ARGV[1] == '0'
  if held[1] == epoch and held[2] == 'running' and (given_back or held[3] ~= '0') then
    redis.call('HSET', KEYS[i], 'lease_ms', given_back and '0' or text(now + ARGV[1]))
    redis.call('ZADD', KEYS[1], text(now + ARGV[1]), task_id)
    replies[i - 1] = 1
  else
    replies[i - 1] = 0
  end
end
return replies
