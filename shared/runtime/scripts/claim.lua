-- claim: one worker takes a task, with a new epoch that shuts every earlier holder out, and a lease.
-- KEYS task, log, pending   ARGV task_id, worker, lease_ms, max_crashes, epoch held by the caller or '',
--      name of this very claim
-- A claim that is sent again under its name, since its reply was lost, gets the same answer.
-- Returns {outcome, epoch, last entry id, ms since created, field, value, ...}. Outcomes: GONE, ENDED, LEASED (somebody
-- else works on it), CLAIMED, EXHAUSTED (claimed, but it has killed too many workers: only end it).
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'GONE'} end
if is_ended(status) then return {'ENDED'} end
local now = now_ms()
local lease = tonumber(redis.call('HGET', KEYS[1], 'lease_ms') or '0')
local crashes = tonumber(redis.call('HGET', KEYS[1], 'crashes'))
local function answer(epoch)
  local outcome = crashes >= tonumber(ARGV[4]) and 'EXHAUSTED' or 'CLAIMED'
  local waited = text(now - redis.call('HGET', KEYS[1], 'created_ms'))
  return {outcome, epoch, last_entry_id(KEYS[2]), waited, unpack(redis.call('HGETALL', KEYS[1]))}
end
if lease > now and redis.call('HGET', KEYS[1], 'claim') == ARGV[6] then
  return answer(redis.call('HGET', KEYS[1], 'epoch'))
end
local mine = ARGV[5] ~= '' and redis.call('HGET', KEYS[1], 'epoch') == ARGV[5]
if lease > now and not mine then return {'LEASED'} end
if lease > 0 and lease <= now and not mine then crashes = redis.call('HINCRBY', KEYS[1], 'crashes', 1) end
local epoch = next_epoch(KEYS[1], KEYS[2])
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'status', 'running', 'epoch', epoch, 'worker', ARGV[2], 'claim', ARGV[6],
  'started_ms', text(now), 'lease_ms', text(now + ARGV[3]))
redis.call('ZADD', KEYS[3], text(now + ARGV[3]), ARGV[1])
return answer(epoch)
