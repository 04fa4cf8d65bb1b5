-- What is used of each limit. All rates and windows of one subject are one string, its counter: a flat list, packed, of
-- when it says nothing any more (milliseconds), then four numbers for each limit, in the order of their codes:
--   code   1 to 5 count tokens, 6 to 10 requests, each a month, day, hour, minute, second
--   used   what is settled and pending together
--   then, of a rate, the refilled part of a token (in amount * microseconds) and when that was so (microseconds);
--   of a window, the first day after it, and 0.
-- Requests in flight are a sorted set: request id -> expected end. Beyond PENDING_MS nobody can still end one.
-- A line-up is what a plan asks, one group for each key: {scope, code, amount, code, amount...}, code 0 for in flight.
-- The pure form is policies/rate.py, window.py and in_flight.py; the line-up is made by proxy/store/line_up.py.

local PENDING_MS = 30 * 86400000
local SLACK_MS = 60000
local PERIOD_US = {
  false, false, 3600000000, 60000000, 1000000,
  false, false, 3600000000, 60000000, 1000000,
}

-- Set a key that must outlive what is pending to expire; not each time, since that is one more write.
local function keep(key)
  if redis.call('PTTL', key) < PENDING_MS then
    redis.call('PEXPIRE', key, 2 * PENDING_MS)
  end
end

local function unpacked(packed)
  return packed and cmsgpack.unpack(packed) or {0}
end

-- Where a counter has the limit of this code, at `at` or behind; made where it has none.
local function place(counter, at, code)
  while counter[at] and counter[at] < code do
    at = at + 4
  end
  if counter[at] ~= code then
    for i = #counter, at, -1 do
      counter[i + 4] = counter[i]
    end
    counter[at], counter[at + 1], counter[at + 2], counter[at + 3] = code, 0, 0, 0
  end
  return at
end

-- Bring one limit to now: a rate refills, and its clock never runs backwards; a window that is over begins anew.
local function bring(counter, at, code, amount, now)
  local period, since = PERIOD_US[code], counter[at + 3]
  if not period then
    if now >= counter[at + 2] * DAY_US then
      local today = floor(now / DAY_US)
      counter[at + 1] = 0
      counter[at + 2] = code % 5 == 1 and month_end(today) or today + 1
    end
    return
  end
  if now <= since then
    return
  end
  counter[at + 3] = now
  local used, carry, elapsed = counter[at + 1], counter[at + 2], now - since
  if used == 0 then
    return
  end
  local gained = elapsed * amount + carry
  if gained >= 2 * used * period then
    -- Twice what it needs: no rounding of these products matters.
    used, carry = 0, 0
  elseif gained <= MAX then
    carry = fmod(gained, period)
    used = used - (gained - carry) / period
  else
    local periods, rest = divide(elapsed, period)
    local refilled, remainder = multiply_divide(amount, rest, period)
    carry = carry + remainder
    if carry >= period then
      refilled, carry = refilled + 1, carry - period
    end
    used = used - periods * amount - refilled
  end
  if used <= 0 then
    used, carry = 0, 0
  end
  counter[at + 1], counter[at + 2] = used, carry
end

-- The least t with floor((t * amount + carry) / period) >= missing: ceil((missing * period - carry) / amount),
-- at most MAX, 285 years.
local function refill_wait(amount, period, carry, missing)
  local whole, rest = multiply_divide(missing, period, amount)
  if rest > carry then
    return math.min(whole + 1, MAX)
  end
  return math.min(whole - divide(carry - rest, amount), MAX)
end

-- Microseconds until `missing` more of one limit would fit.
local function wait(counter, at, amount, missing, now)
  local period = PERIOD_US[counter[at]]
  if period then
    return refill_wait(amount, period, counter[at + 2], missing)
  end
  return counter[at + 2] * DAY_US - now
end

-- Microseconds until nothing of one limit is used.
local function reset(counter, at, amount, now)
  local used = counter[at + 1]
  return used == 0 and 0 or wait(counter, at, amount, used, now)
end

-- Write a counter back. It is kept for as long as it says something, also of another plan's limits.
local function save(key, counter, lasts, now)
  local now_ms = floor(now / 1000)
  local silent_at = now_ms + math.ceil(lasts / 1000) + SLACK_MS
  if silent_at > counter[1] then
    counter[1] = silent_at
  end
  redis.call('SET', key, cmsgpack.pack(counter), 'PX', text(counter[1] - now_ms))
end

-- Move what is used of each limit on tokens and on requests. `ends` tells, for each window in turn, which one a
-- reservation was taken from: another is not moved; nil moves the present one.
local function move(groups, first, found, ends, now, tokens, requests)
  local window = 0
  for g, group in ipairs(groups) do
    local counter, at, lasts = nil, 2, 0
    for i = 2, group[2] == 0 and 0 or #group, 2 do
      local code, amount = group[i], group[i + 1]
      local difference = code > 5 and requests or tokens
      local rate = PERIOD_US[code]
      window = rate and window or window + 1
      if difference ~= 0 then
        counter = counter or unpacked(found[first + g])
        at = counter[at] == code and at or place(counter, at, code)
        bring(counter, at, code, amount, now)
        local used, lasts_one = counter[at + 1] + difference, rate
        if not rate then
          if not ends or ends[window] == counter[at + 2] then
            counter[at + 1] = used > 0 and used or 0
          end
          lasts_one = counter[at + 2] * DAY_US - now
        elseif used > 0 then
          counter[at + 1] = used < MAX and used or MAX
          -- In debt it lasts longer than a period.
          lasts_one = used > amount and wait(counter, at, amount, counter[at + 1], now) or rate
        else
          counter[at + 1], counter[at + 2] = 0, 0
        end
        lasts = lasts_one > lasts and lasts_one or lasts
        at = at + 4
      end
    end
    if counter then
      save(KEYS[first + g], counter, lasts, now)
    end
  end
end

-- Give back a request's places in flight.
local function leave(groups, first, id)
  for g, group in ipairs(groups) do
    if group[2] == 0 then
      redis.call('ZREM', KEYS[first + g], id)
    end
  end
end

-- From which expected end on a place in flight is one.
local function alive_at(now)
  return text(now - PENDING_MS * 1000)
end

-- Microseconds until `missing` places are expected to be free, at least a second.
local function place_wait(key, missing, now)
  local ends = redis.call('ZRANGEBYSCORE', key, alive_at(now), '+inf', 'WITHSCORES', 'LIMIT', missing - 1, 1)
  return math.max(1000000, tonumber(ends[2]) - now)
end

-- Microseconds until every place is expected to be free.
local function latest_end(key, now)
  local latest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  return latest[2] and math.max(0, tonumber(latest[2]) - now) or 0
end
