-- Take what a request needs on every limit, or nothing. Repeated, it tells its first grant again.
-- KEYS  1 reservation, 2 open index, 3 the tenant's epoch, 4 the client's own key for the request, 5.. one counter for
--       each limit
-- ARGV  1 request id, 2 member of the open index, 3 epoch, 4 draft (JSON), 5 least and 6 largest completion (tokens a
--       choice), 7 how long it is expected in flight (microseconds), 8 how long the client's key is remembered
--       (milliseconds; 0: it gave none), then five for each limit (lib/limits.lua)
-- Returns "now granted completion [used reset]..." or "now refused index wait [used reset]..." or "now repeated id" or
--       "now closed" or "now foreign": times in microseconds, index from 0, wait "-" is never; repeated: the client's key
--       belongs to the request with that id; closed: it had ended before it began.

local now = clock()
if foreign(KEYS[3], ARGV[3]) then
  return text(now) .. ' foreign'
end
local known = redis.call('HMGET', KEYS[1], 'state', 'decision')
if known[1] then
  return known[2] or text(now) .. ' closed'
end

local first = ARGV[8] ~= '0' and redis.call('GET', KEYS[4])
if first then
  return text(now) .. ' repeated ' .. first
end

local least, completion = tonumber(ARGV[5]), tonumber(ARGV[6])
local rows, counters = asked_rows(5, 9), {}
local fits = true
for i, row in ipairs(rows) do
  row.id, row.ends = ARGV[1], now + tonumber(ARGV[7])
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
  'state', 'PENDING', 'decision', decision, 'draft', ARGV[4], 'holds', table.concat(lines, '\n'))
redis.call('PEXPIRE', KEYS[1], text(PENDING_MS))
if ARGV[8] ~= '0' then
  redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[8])
  redis.call('HSET', KEYS[1], 'once', KEYS[4])
end
redis.call('ZADD', KEYS[2], text(now), ARGV[2])
redis.call('PEXPIRE', KEYS[2], text(PENDING_MS))
return decision
