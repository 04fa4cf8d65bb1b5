-- Post what a request used, return the rest and append its FINAL record to the ledger. The first end wins; a settle
-- that comes after its reservation was EXPIRED appends one CORRECTION with what it knows better, and moves the limits
-- to where they were had it come first.
-- KEYS  1 reservation, 2 open index, 3 the tenant's epoch, 4 ledger stream, 5.. one counter for each limit
-- ARGV  1 request id, 2 member of the open index, 3 epoch, 4 the end (SETTLED or EXPIRED), 5 the incarnation that ends
--       it, 6 "keep" lets the quota keep the whole reservation, 7 "charge" or "leave" a request without a reservation,
--       8 how many arguments of limits follow, then five for each limit (lib/limits.lua; the fixed cost is what was
--       used), then the record's names and values
-- Returns "now foreign", or "now entry ours corrected [difference]...": entry is the id of its FINAL in the ledger, "-"
--       where it was released, "?" where it is not known and left; ours is 1 if this end wrote it, now or when the same
--       incarnation sent it before; corrected likewise of the CORRECTION, with its five differences in the order of
--       COUNTED.

local COUNTED = {'prompt_tokens', 'cached_tokens', 'completion_tokens', 'charge_micros', 'wasted_tokens'}

local now = clock()
local record = 9 + tonumber(ARGV[8])
local known = redis.call('HMGET', KEYS[1], 'state', 'entry', 'holds', 'by', 'corrected_by', 'differences')

-- What each limit is charged by this end.
local function costs_of(rows)
  local named, costs = {}, {}
  for _, row in ipairs(asked_rows(5, 9)) do
    named[row.key] = row.fixed
  end
  for i, row in ipairs(rows) do
    local keeps = row.held and (ARGV[6] == 'keep' or not named[row.key])
    costs[i] = keeps and row.held.cost or named[row.key]
  end
  return costs
end

local function words(numbers)
  local told = {}
  for i, number in ipairs(numbers) do
    told[i] = text(number)
  end
  return table.concat(told, ' ')
end

local function places_of_counted()
  local at = {}
  for i = record, #ARGV, 2 do
    at[ARGV[i]] = i + 1
  end
  return at
end

local function counted()
  local at, numbers = places_of_counted(), {}
  for i, name in ipairs(COUNTED) do
    numbers[i] = tonumber(ARGV[at[name]])
  end
  return numbers
end

-- Append the CORRECTION and move every limit from what the sweep posted to what this end posts.
local function correction()
  local before = redis.call('HMGET', KEYS[1], 'posted', 'billed')
  local rows, posted = held_rows(known[3], ARGV[1]), numbers_of(before[1])
  for i, cost in ipairs(costs_of(rows)) do
    correct(rows[i], now, cost - posted[i])
  end
  local at, billed, differences = places_of_counted(), numbers_of(before[2]), {}
  for i, number in ipairs(counted()) do
    differences[i] = number - billed[i]
    ARGV[at[COUNTED[i]]] = text(differences[i])
  end
  redis.call('XADD', KEYS[4], '*', 'kind', 'CORRECTION', unpack(ARGV, record))
  redis.call('HSET', KEYS[1], 'corrected_by', ARGV[5], 'differences', words(differences))
  redis.call('HDEL', KEYS[1], 'holds', 'posted', 'billed')
  redis.call('PEXPIRE', KEYS[1], text(MARKER_MS))
  return words(differences)
end

if foreign(KEYS[3], ARGV[3]) then
  return text(now) .. ' foreign'
end
if not known[1] and ARGV[7] == 'leave' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return text(now) .. ' ? 0 0'
end
if known[1] and known[1] ~= 'PENDING' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  local ours, told = known[1] == ARGV[4] and known[4] == ARGV[5], '0'
  if known[1] == 'EXPIRED' and ARGV[4] == 'SETTLED' then
    if not known[5] then
      told = '1 ' .. correction()
    elseif known[5] == ARGV[5] then
      told = '1 ' .. known[6]
    end
  end
  return table.concat({text(now), known[2], ours and '1' or '0', told}, ' ')
end

local rows = known[1] and held_rows(known[3], ARGV[1]) or asked_rows(5, 9)
local costs = costs_of(rows)
for i, row in ipairs(rows) do
  row.id = ARGV[1]
  post(row, now, costs[i])
end
local entry = redis.call('XADD', KEYS[4], '*', 'kind', 'FINAL', unpack(ARGV, record))
finish(KEYS[1], KEYS[2], ARGV[2], ARGV[4], entry)
redis.call('HSET', KEYS[1], 'by', ARGV[5])
if ARGV[4] == 'EXPIRED' then
  -- Its gateway may only have been paused: what a CORRECTION is the difference to.
  redis.call('HSET', KEYS[1], 'holds', known[3], 'posted', words(costs), 'billed', words(counted()))
end
return table.concat({text(now), entry, '1', '0'}, ' ')
