-- Take what a request needs on every limit, or nothing. Repeated, it tells its first grant again.
-- KEYS  1 reservation, 2 open index, 3.. one counter for each limit
-- ARGV  1 request id, 2 member of the open index, 3 draft (JSON), 4 least and 5 largest completion (tokens a choice),
--       6 how long it is expected in flight (microseconds), then five for each limit (lib/limits.lua)
-- Returns "now granted completion [used reset]..." or "now refused index wait [used reset]..." or "now closed":
--       times in microseconds, index from 0, wait "-" is never; closed: it had ended before it began.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'decision')
if known[1] then
  return known[2] or text(now) .. ' closed'
end

local least, completion = tonumber(ARGV[4]), tonumber(ARGV[5])
local rows, counters = asked_rows(3, 7), {}
local fits = true
for i, row in ipairs(rows) do
  row.id, row.ends = ARGV[1], now + tonumber(ARGV[6])
  counters[i] = kinds[row.kind].load(row, now)
  local room = row.amount - counters[i].used - row.fixed
  if room < 0 then
    fits = false
  elseif row.scale > 0 then
    completion = math.min(completion, (divide(room, row.scale)))
  end
end

if not fits or completion < least then
  local longest, index = -1, 0
  for i, row in ipairs(rows) do
    local cost = row.fixed + row.scale * least
    local missing = cost - (row.amount - counters[i].used)
    local wait = -1
    if cost > row.amount then
      wait = math.huge
    elseif missing > 0 then
      wait = kinds[row.kind].wait(row, counters[i], missing)
    end
    if wait > longest then
      longest, index = wait, i
    end
  end
  local wait = longest == math.huge and '-' or text(longest)
  return table.concat({text(now), 'refused', text(index - 1), wait, standings(rows, counters)}, ' ')
end

local lines = {}
for i, row in ipairs(rows) do
  local cost = row.fixed + row.scale * completion
  lines[i] = hold_line(row, cost, counters[i])
  kinds[row.kind].take(row, counters[i], cost)
  kinds[row.kind].save(row, counters[i])
end
local decision = table.concat({text(now), 'granted', text(completion), standings(rows, counters)}, ' ')
redis.call('HSET', KEYS[1],
  'state', 'PENDING', 'decision', decision, 'draft', ARGV[3], 'holds', table.concat(lines, '\n'))
redis.call('PEXPIRE', KEYS[1], text(PENDING_MS))
redis.call('ZADD', KEYS[2], text(now), ARGV[2])
redis.call('PEXPIRE', KEYS[2], text(PENDING_MS))
return decision
