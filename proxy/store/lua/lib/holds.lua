-- What a reservation holds, as text on its hash: a line "key kind amount period cost start" for each limit.
-- Keys are percent-encoded, so they contain neither blanks nor line ends. Part of every script.

local MARKER_MS = 2 * 3600000
-- A release that overtook its reserve is remembered for as long as that reserve may still be on its way.
local LATE_MS = 5 * 60000

-- Whether a tenant's counters and ledger are not those that the gateway remembers: zeros here are not "0 used".
local function foreign(key, epoch)
  return redis.call('GET', key) ~= epoch
end

local function hold_line(row, cost, counter)
  local period = type(row.period) == 'number' and text(row.period) or row.period
  return table.concat({row.key, row.kind, text(row.amount), period, text(cost), text(counter.start or 0)}, ' ')
end

local function held_rows(lines, id)
  local rows = {}
  for key, kind, amount, period, cost, start in string.gmatch(lines, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)') do
    rows[#rows + 1] = {
      key = key, kind = kind, amount = tonumber(amount), period = tonumber(period) or period, id = id,
      held = {cost = tonumber(cost), start = tonumber(start)},
    }
  end
  return rows
end

-- Turn what one row holds (nothing, where it has no `held`) into `cost` used.
local function post(row, now, cost)
  local kind = kinds[row.kind]
  local counter = kind.load(row, now)
  kind.post(row, counter, row.held, cost)
  kind.save(row, counter)
end

local function numbers_of(line)
  local numbers = {}
  for word in string.gmatch(line, '%S+') do
    numbers[#numbers + 1] = tonumber(word)
  end
  return numbers
end

-- Move what one row was charged before by `difference`.
local function correct(row, now, difference)
  local kind = kinds[row.kind]
  local counter = kind.load(row, now)
  kind.correct(row, counter, row.held.start, difference)
  kind.save(row, counter)
end

-- End a reservation: what it held is forgotten, its end is remembered for as long as anybody may repeat it.
local function finish(reservation, open, member, state, entry, alive_ms)
  redis.call('HDEL', reservation,
    'draft', 'holds', 'once', 'trimmed', 'attempt', 'noted', 'prompt_tokens', 'completion_tokens')
  redis.call('HSET', reservation, 'state', state, 'entry', entry)
  redis.call('PEXPIRE', reservation, text(alive_ms or MARKER_MS))
  redis.call('ZREM', open, member)
end
