-- What is used of each limit. All rates and windows of one subject are one string, its counter, packed: a code for each
-- limit, a zero, then doubles: when it says nothing any more (milliseconds), and three of each limit, in that order:
--   code   1 to 5 count tokens, 6 to 10 requests, each a month, day, hour, minute, second
--   used   what is settled and pending together, less what was granted in a window: that may leave it below 0
--   then, of a rate, the refilled part of a token (in amount * microseconds) and when that was so (microseconds);
--   of a window, the first day after it, and 0.
--
-- A user with 9000 tokens a minute and 60 requests a day, on 30 November 2026 at 12:00:00 UTC, when 4000 of the tokens
-- are used and half of another has refilled, and 7 of the requests are used:
--   04 07 00                  the codes 4 and 7, and their end
--   00 00 4c 88 ee 22 7a 42   1796083320000: two minutes after that day
--   00 00 00 00 00 40 af 40   4000
--   00 00 00 00 38 9c 7c 41   30000000: half of the 60000000 that are a token
--   00 40 cf 98 f4 85 19 43   1796040000000000: now
--   00 00 00 00 00 00 1c 40   7
--   00 00 00 00 00 4d d4 40   20788: the first of December, in days since 1970
--   00 00 00 00 00 00 00 00   0
-- The formats are made once, since whatever becomes a string of Lua's is hashed byte by byte.
-- The pure form is policies/rate.py and policies/window.py.

local SLACK_MS = 60000

local layouts = {}

-- The format of a counter of so many limits.
local function layout(limits)
  local known = layouts[limits] or '<s' .. string.rep('d', 1 + 3 * limits)
  layouts[limits] = known
  return known
end

-- A counter with the limits of these codes in front, made where it has none; those of another plan stay, behind them.
local function arranged(counter, codes)
  local others = string.gsub(counter[1], '[' .. codes .. ']', '')
  local new = {codes .. others, counter[2]}
  for code in string.gmatch(new[1], '.') do
    local at = 3 * (string.find(counter[1], code, 1, true) or 1 + #counter[1])
    for i = at, at + 2 do
      new[#new + 1] = at <= 3 * #counter[1] and counter[i] or 0
    end
  end
  return new
end

-- A counter as a list: its codes, when it says nothing any more, and three numbers of each limit; those of the k-th
-- begin at 3 * k. The limits with these codes come first; of those not in the first `most` none need be there.
local function unpacked(packed, codes, most)
  local limits = packed and (#packed - 9) / 25 or 0
  local counter = packed and {struct.unpack(layout(math.min(limits, most)), packed)} or {'', 0}
  if counter[1] == codes or string.find(counter[1], codes, 1, true) == 1 then
    return counter
  end
  return arranged(most < limits and {struct.unpack(layout(limits), packed)} or counter, codes)
end

-- Bring a limit to now: a rate refills, and its clock never runs backwards; a window that is over begins anew. Return
-- what is used then; for how long that says something, unless it is debt; and of a window the first day after it.
local function bring(counter, at, period, amount, now)
  local used = counter[at]
  if period <= MONTH then
    local after = counter[at + 1]
    if after * DAY_US > now then
      return used, after * DAY_US - now, after
    end
    local today = floor(now / DAY_US)
    after = period == MONTH and month_end(today) or today + 1
    counter[at], counter[at + 1] = 0, after
    return 0, after * DAY_US - now, after
  end
  local elapsed = now - counter[at + 2]
  if elapsed <= 0 then
    return used, period
  end
  counter[at + 2] = now
  if used == 0 then
    return 0, period
  end
  local carry = counter[at + 1]
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
  counter[at], counter[at + 1] = used, carry
  return used, period
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
local function wait(counter, at, period, amount, missing, now)
  if period > MONTH then
    return refill_wait(amount, period, counter[at + 1], missing)
  end
  return counter[at + 1] * DAY_US - now
end

-- Microseconds until nothing of one limit is used.
local function reset(counter, at, period, amount, now)
  local used = counter[at]
  return used == 0 and 0 or wait(counter, at, period, amount, used, now)
end

-- Write back what is there of a counter. It is kept for as long as it says something, also of another plan's limits, and
-- a little longer, so that most writes need not set when it expires.
local function save(key, counter, lasts, now)
  local silent_at = (now + lasts) / 1000 + SLACK_MS
  local kept = silent_at <= counter[2]
  if not kept then
    counter[2] = math.ceil(silent_at) + SLACK_MS
  end
  redis.call('SETRANGE', key, '0', struct.pack(layout(floor((#counter - 2) / 3)), unpack(counter)))
  if not kept then
    redis.call('PEXPIRE', key, text(counter[2] - floor(now / 1000)))
  end
end
