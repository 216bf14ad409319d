-- sweep: look at the tasks of one bucket that are due, and say which jobs must be in the queue.
-- KEYS pending, task, task, ...   ARGV retry_look_ms, max_look_ms, '1' to take over run-out leases, task_id, ...
-- Returns {task_id, job number, queue, request_id, 'takeover' or 'look'} for each job to be made sure of.
-- A takeover's job is new and goes to the head. A looked-at task has a job already, unless it was lost.
local now = now_ms()
local jobs = {}
for i = 2, #KEYS do
  local task_id = ARGV[i + 2]
  local due = redis.call('ZSCORE', KEYS[1], task_id)
  local fields = redis.call('HMGET', KEYS[i], 'status', 'lease_ms', 'look_ms', 'queue', 'request_id')
  local status, lease = fields[1], tonumber(fields[2] or '0')
  if not due or tonumber(due) > now then
    -- renewed or swept by another worker since the caller asked
  elseif not status or is_ended(status) then
    redis.call('ZREM', KEYS[1], task_id)
  elseif lease > now then
    redis.call('ZADD', KEYS[1], text(lease), task_id)
  elseif status == 'running' then
    if ARGV[3] == '1' then
      if lease > 0 then redis.call('HINCRBY', KEYS[i], 'crashes', 1) end
      local job = redis.call('HINCRBY', KEYS[i], 'job', 1)
      redis.call('HSET', KEYS[i], 'status', 'queued', 'lease_ms', '0', 'look_ms', ARGV[1])
      redis.call('ZADD', KEYS[1], text(now + ARGV[1]), task_id)
      jobs[#jobs + 1] = {task_id, job, fields[4], fields[5] or '', 'takeover'}
    end
  else
    local look = math.min(tonumber(fields[3]) * 2, tonumber(ARGV[2]))
    redis.call('HSET', KEYS[i], 'look_ms', text(look))
    redis.call('ZADD', KEYS[1], text(now + look), task_id)
    jobs[#jobs + 1] = {task_id, tonumber(redis.call('HGET', KEYS[i], 'job')), fields[4], fields[5] or '', 'look'}
  end
end
return jobs
