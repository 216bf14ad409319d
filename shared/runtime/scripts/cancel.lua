-- cancel: in one step fence whoever works on the task, and write its `cancelled` entry with the text so far.
-- The caller has folded the log up to an entry and sends that text; the few entries that came since are folded here,
-- so that a stream of any speed is cancelled in one call.
-- KEYS task, log, channel, pending, ended
-- ARGV task_id, id of the last entry folded, the text up to it, the frame before the partial text, the frame after it,
--      log_ttl_ms, task_ttl_ms
-- Returns CANCELLED, ENDED (it had ended before), or GONE.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'GONE' end
if is_ended(status) then return 'ENDED' end
local now = now_ms()
local partial = ARGV[3]
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+')) do
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  if fields.t == 'delta' or fields.t == 'reset' then
    local content = cjson.decode(string.match(fields.f, '\ndata: (.*)\n\n$')).content
    partial = fields.t == 'reset' and content or partial .. content
  end
end
local epoch = next_epoch(KEYS[1], KEYS[2])
local id = epoch .. '-0'
local frame = ARGV[4] .. cjson.encode(partial) .. ARGV[5]
redis.call('HSET', KEYS[1], 'epoch', epoch)
add_entry(KEYS[2], KEYS[3], id, last_entry_id(KEYS[2]), 'cancelled', frame)
finish(KEYS[1], KEYS[2], KEYS[4], KEYS[5], ARGV[1], 'cancelled', id, frame, now, ARGV[6], ARGV[7])
return 'CANCELLED'
