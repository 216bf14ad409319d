-- append: a frozen batch of entries onto a log, all of it or nothing, and only by the one who holds the task.
-- KEYS task, log, channel, pending, ended
-- ARGV task_id, epoch, id of the entry to follow, log_ttl_ms, task_ttl_ms, then id, type, frame for each entry
-- Returns OK, DONE (the batch stands already: an earlier reply was lost), FENCED (the task is not the caller's),
-- or MISMATCH (the log does not end where the caller left it: the store went back).
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch ~= ARGV[2] then return 'FENCED' end
local last = last_entry_id(KEYS[2])
local last_epoch, last_seq = string.match(last, '^(%d+)%-(%d+)$')
local final_seq = tonumber(string.match(ARGV[#ARGV - 2], '%-(%d+)$'))
if last_epoch == ARGV[2] and tonumber(last_seq) >= final_seq then return 'DONE' end
if is_ended(redis.call('HGET', KEYS[1], 'status')) then return 'FENCED' end
if last ~= ARGV[3] then return 'MISMATCH' end
local previous = ARGV[3]
for i = 6, #ARGV, 3 do
  add_entry(KEYS[2], KEYS[3], ARGV[i], previous, ARGV[i + 1], ARGV[i + 2])
  previous = ARGV[i]
end
local type, frame = ARGV[#ARGV - 1], ARGV[#ARGV]
if is_ended(type) then
  finish(KEYS[1], KEYS[2], KEYS[4], KEYS[5], ARGV[1], type, previous, frame, now_ms(), ARGV[4], ARGV[5])
end
return 'OK'
