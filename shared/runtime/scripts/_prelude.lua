-- What several scripts share. Times are milliseconds by this server's own clock; a client's is never used.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

local function last_entry_id(log)
  local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
  return newest[1] and newest[1][1] or '0-0'
end

-- An epoch that no entry and no holder of this task has had, and no other task on this server: its clock in
-- microseconds, unless that went back. Scripts run one at a time and take longer than one of these.
local function next_epoch(task, log)
  local t = redis.call('TIME')
  local epoch = t[1] * 1000000 + t[2]
  local written = tonumber(string.match(last_entry_id(log), '^(%d+)'))
  local held = tonumber(redis.call('HGET', task, 'epoch') or '0')
  if written >= epoch then epoch = written + 1 end
  if held >= epoch then epoch = held + 1 end
  return text(epoch)
end

local function is_ended(status)
  return status == 'completed' or status == 'failed' or status == 'cancelled'
end

-- Append one entry and ring the doorbell with a copy of it.
local function add_entry(log, channel, id, previous, type, frame)
  redis.call('XADD', log, id, 'p', previous, 't', type, 'f', frame)
  redis.call('SPUBLISH', channel, id .. ' ' .. previous .. ' ' .. type .. ' ' .. frame)
end

-- What goes with every terminal entry, whoever writes it.
local function finish(task, log, pending, ended, task_id, status, id, frame, now, log_ttl, task_ttl)
  redis.call('HSET', task, 'status', status, 'last_id', id, 'end_frame', frame, 'ended_ms', text(now), 'lease_ms', '0')
  redis.call('PEXPIRE', log, log_ttl)
  redis.call('PEXPIRE', task, task_ttl)
  redis.call('ZREM', pending, task_id)
  redis.call('ZADD', ended, text(now), task_id)
end

