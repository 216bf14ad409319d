-- begin_turn: a user's message enters a session, once per task, if no answer of the session still runs.
-- KEYS session, turns, turn_ids   ARGV owner, task_id, turn (JSON), ttl_ms, '1' where the session may be made,
--      the active task that the caller knows to be over or '', '1' where that task never came to be
-- Returns {'OK'}, {'NOT_FOUND'}, or {'BUSY', active task, ms since it became active}.
local now = now_ms()
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return {'NOT_FOUND'} end
if not owner then
  if ARGV[5] ~= '1' then return {'NOT_FOUND'} end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'created_ms', text(now))
end
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then
  local active = redis.call('HGET', KEYS[1], 'active_task')
  if active and active ~= ARGV[6] then
    return {'BUSY', active, text(now - redis.call('HGET', KEYS[1], 'active_since_ms'))}
  end
  if active and ARGV[7] == '1' then
    local newest = redis.call('LINDEX', KEYS[2], -1)
    if newest and cjson.decode(newest).task_id == active then
      redis.call('RPOP', KEYS[2])
      redis.call('SREM', KEYS[3], active)
    end
  end
  redis.call('RPUSH', KEYS[2], ARGV[3])
  redis.call('SADD', KEYS[3], ARGV[2])
  redis.call('HSET', KEYS[1], 'active_task', ARGV[2], 'active_since_ms', text(now))
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {'OK'}
