-- The three kinds of limits, each with the same seven verbs. Part of every script.
-- A row is what is asked of one limit: {key, kind, amount, period, id, ends}. A counter is its state brought to now:
--   load(row, now)              read it; refill, roll over
--   wait(row, counter, missing) microseconds until `missing` more would fit
--   reset(row, counter)         microseconds until none of it is used
--   take(row, counter, cost)    reserve
--   post(row, counter, held, cost)  turn what `held` {cost, start} reserved into `cost` used; held is nil if nothing was
--   correct(row, counter, start, difference)  move what was posted before, in the window it was reserved in
--   save(row, counter)          write it, with its TTL
-- The pure form is policies/rate.py, window.py and in_flight.py.

local PENDING_MS = 30 * 86400000
local SLACK_MS = 60000
local kinds = {rate = {}, window = {}, in_flight = {}}

-- Keep what `save` wrote until it says nothing any more.
local function keep(row, alive_us)
  redis.call('PEXPIRE', row.key, text(math.ceil(alive_us / 1000) + SLACK_MS))
end

-- rate: hash {used, carry, at}. `carry` is the refilled part of a token, in amount * microseconds.

function kinds.rate.load(row, now)
  local stored = redis.call('HMGET', row.key, 'used', 'carry', 'at')
  local used, carry, at = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0, tonumber(stored[3]) or now
  now = math.max(now, at)
  local periods, rest = divide(now - at, row.period)
  if periods > divide(used, row.amount) then
    return {used = 0, carry = 0, at = now}
  end
  local refilled, remainder = multiply_divide(row.amount, rest, row.period)
  carry = carry + remainder
  if carry >= row.period then
    refilled, carry = refilled + 1, carry - row.period
  end
  used = used - periods * row.amount - refilled
  if used <= 0 then
    used, carry = 0, 0
  end
  return {used = used, carry = carry, at = now}
end

-- The least t with floor((t * amount + carry) / period) >= missing: ceil((missing * period - carry) / amount),
-- at most MAX, 285 years.
function kinds.rate.wait(row, counter, missing)
  local whole, rest = multiply_divide(missing, row.period, row.amount)
  if rest > counter.carry then
    return math.min(whole + 1, MAX)
  end
  return math.min(whole - divide(counter.carry - rest, row.amount), MAX)
end

function kinds.rate.reset(row, counter)
  return counter.used == 0 and 0 or kinds.rate.wait(row, counter, counter.used)
end

function kinds.rate.take(row, counter, cost)
  counter.used = counter.used + cost
end

function kinds.rate.post(row, counter, held, cost)
  counter.used = math.min(math.max(0, counter.used - (held and held.cost or 0) + cost), MAX)
  counter.carry = counter.used > 0 and counter.carry or 0
end

function kinds.rate.correct(row, counter, start, difference)
  kinds.rate.post(row, counter, nil, difference)
end

function kinds.rate.save(row, counter)
  redis.call('HSET', row.key, 'used', text(counter.used), 'carry', text(counter.carry), 'at', text(counter.at))
  keep(row, kinds.rate.reset(row, counter))
end

-- window: hash {start, settled, pending}. A hold belongs to the window it was taken from.

function kinds.window.load(row, now)
  local stored = redis.call('HMGET', row.key, 'start', 'settled', 'pending')
  local opened = tonumber(stored[1]) or 0
  now = math.max(now, opened)
  local start, finish = window_bounds(row.period, now)
  if start > opened then
    return {start = start, finish = finish, now = now, settled = 0, pending = 0, used = 0}
  end
  local settled, pending = tonumber(stored[2]), tonumber(stored[3])
  return {start = opened, finish = finish, now = now, settled = settled, pending = pending, used = settled + pending}
end

function kinds.window.wait(row, counter, missing)
  return counter.finish - counter.now
end

function kinds.window.reset(row, counter)
  return counter.used == 0 and 0 or counter.finish - counter.now
end

function kinds.window.take(row, counter, cost)
  counter.pending = counter.pending + cost
  counter.used = counter.settled + counter.pending
end

function kinds.window.post(row, counter, held, cost)
  if held and held.start ~= counter.start then
    return
  end
  counter.pending = counter.pending - (held and held.cost or 0)
  counter.settled = counter.settled + cost
  counter.used = counter.settled + counter.pending
end

function kinds.window.correct(row, counter, start, difference)
  if start == counter.start then
    kinds.window.post(row, counter, nil, difference)
  end
end

function kinds.window.save(row, counter)
  redis.call('HSET', row.key,
    'start', text(counter.start), 'settled', text(counter.settled), 'pending', text(counter.pending))
  keep(row, counter.finish - counter.now)
end

-- in_flight: sorted set of request id -> expected end. Beyond PENDING_MS nobody can still end it.

function kinds.in_flight.load(row, now)
  local alive = text(now - PENDING_MS * 1000)
  return {now = now, alive = alive, used = redis.call('ZCOUNT', row.key, alive, '+inf')}
end

function kinds.in_flight.wait(row, counter, missing)
  local found = redis.call('ZRANGEBYSCORE', row.key, counter.alive, '+inf', 'WITHSCORES', 'LIMIT', missing - 1, 1)
  return math.max(1000000, tonumber(found[2]) - counter.now)
end

function kinds.in_flight.reset(row, counter)
  local latest = redis.call('ZREVRANGE', row.key, 0, 0, 'WITHSCORES')
  return latest[2] and math.max(0, tonumber(latest[2]) - counter.now) or 0
end

function kinds.in_flight.take(row, counter, cost)
  redis.call('ZREMRANGEBYSCORE', row.key, '-inf', '(' .. counter.alive)
  redis.call('ZADD', row.key, text(row.ends), row.id)
  counter.used = counter.used + 1
end

function kinds.in_flight.post(row, counter, held, cost)
  counter.used = counter.used - redis.call('ZREM', row.key, row.id)
end

function kinds.in_flight.correct(row, counter, start, difference)
end

function kinds.in_flight.save(row, counter)
  redis.call('PEXPIRE', row.key, text(PENDING_MS))
end

-- The rows of a script: one key each from KEYS[first_key], five arguments each from ARGV[first_arg]:
-- kind, amount, period (microseconds, or 'day' or 'month'), fixed cost, scale (the cost of one more token a choice).
local function asked_rows(first_key, first_arg)
  local rows = {}
  for i = first_key, #KEYS do
    local at = first_arg + (i - first_key) * 5
    rows[#rows + 1] = {
      key = KEYS[i], kind = ARGV[at], amount = tonumber(ARGV[at + 1]), period = tonumber(ARGV[at + 2]) or ARGV[at + 2],
      fixed = tonumber(ARGV[at + 3]), scale = tonumber(ARGV[at + 4]),
    }
  end
  return rows
end

-- What a decision says of each limit: "used reset_us" for every row.
local function standings(rows, counters)
  local told = {}
  for i, row in ipairs(rows) do
    told[i] = text(counters[i].used) .. ' ' .. text(kinds[row.kind].reset(row, counters[i]))
  end
  return table.concat(told, ' ')
end
