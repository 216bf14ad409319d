-- create: the commit point of a request. Once it has run, the task will come to an end.
-- KEYS task, log, pending   ARGV task_id, first_look_ms, frame of `created`, then field, value, ...
-- Returns {'CREATED' or 'EXISTS', id of the first entry}. Called again for the same task it changes nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'EXISTS', redis.call('HGET', KEYS[1], 'first_id')}
end
local now = now_ms()
local epoch = next_epoch(KEYS[1], KEYS[2])
local id = epoch .. '-0'
redis.call('XADD', KEYS[2], id, 'p', '0-0', 't', 'created', 'f', ARGV[3])
redis.call('HSET', KEYS[1], 'status', 'queued', 'epoch', epoch, 'created_ms', text(now), 'first_id', id,
  'attempt', '0', 'crashes', '0', 'job', '1', 'lease_ms', '0', 'look_ms', ARGV[2], unpack(ARGV, 4))
redis.call('ZADD', KEYS[3], text(now + ARGV[2]), ARGV[1])
return {'CREATED', id}
