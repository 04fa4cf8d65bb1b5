-- Whether a request fits every limit of its plan, what it takes of them, and how long to wait where it does not.
-- Each unit has a number. What is seen of the limits at one moment are lists:
--   counters   each counter, brought to now, and `lasting`, for how long it says something (microseconds)
--   ends       the first day after each window
--   taken      how many places are taken in each set of requests in flight
--   free       of each unit the least that one of its limits has left, below 0 in debt; math.huge where there is none
--   binding    which limit that is: where it stands among the compiled limits; in flight, which set
-- They begin with the room that four scopes need: a list that grows is made anew at each power of two.
-- The pure form is policies/book.py.

local TOKENS, REQUESTS, IN_FLIGHT = 1, 2, 3

-- Bring every rate and window to now, and look at it.
local function look(limits, found, first, now)
  local counters, lasting, ends, window = {0, 0, 0, 0}, {0, 0, 0, 0}, {}, 0
  local free, binding = {math.huge, math.huge, math.huge}, {false, false, false}
  for g = 1, limits[1] do
    local codes, from, to, last_on_tokens = counter_of(limits, g)
    local counter, at, lasts = unpacked(found[first + g], codes, #codes), 0, 0
    for i = from, to, 2 do
      at = at + 3
      local amount = limits[i + 1]
      local used, lasts_one, after = bring(counter, at, limits[i], amount, now)
      local unit = at > last_on_tokens and REQUESTS or TOKENS
      if amount - used < free[unit] then
        free[unit], binding[unit] = amount - used, i
      end
      if lasts_one > lasts then
        lasts = lasts_one
      end
      if after then
        window = window + 1
        ends[window] = after
      end
    end
    counters[g], lasting[g] = counter, lasts
  end
  return counters, lasting, ends, free, binding
end

-- Look at each set of requests in flight. Return how many places are taken.
local function look_in_flight(limits, last_counter, free, binding, now)
  local taken = {}
  for n = 1, #KEYS - last_counter do
    taken[n] = places_taken(KEYS[last_counter + n], now)
    local left = places_of(limits, n) - taken[n]
    if left < free[IN_FLIGHT] then
      free[IN_FLIGHT], binding[IN_FLIGHT] = left, n
    end
  end
  return taken
end

-- The largest completion, up to the one that is asked, that every limit holds; nil where that is less than the least
-- that is asked, or where there is no room for a request.
local function fitting(free, prompt, choices, completion, least)
  local tokens = free[TOKENS]
  if prompt + choices * completion > tokens then
    completion = tokens < prompt and -1 or divide(tokens - prompt, choices)
  end
  if completion >= least and free[REQUESTS] > 0 and free[IN_FLIGHT] > 0 then
    return completion
  end
end

-- Take tokens and one request of every rate and window.
local function take(limits, first, counters, lasting, tokens, now)
  for g = 1, limits[1] do
    local counter, codes, on_tokens = counters[g], limits[3 * g - 1], limits[3 * g]
    for at = 3, 3 * on_tokens, 3 do
      counter[at] = counter[at] + tokens
    end
    for at = 3 * on_tokens + 3, 3 * #codes, 3 do
      counter[at] = counter[at] + 1
    end
    save(KEYS[first + g], counter, lasting[g], now)
  end
end

-- Take a place in each set of requests in flight, until it is expected to end.
local function take_places(last_counter, taken, id, ends_at)
  for n = 1, #taken do
    take_place(KEYS[last_counter + n], id, text(ends_at), taken[n])
    taken[n] = taken[n] + 1
  end
end

-- Which limit, counted from 0, takes longest until so many tokens and one request fit, and how long (math.huge is never);
-- then its unit and where it stands, as `binding` tells it.
local function longest_wait(limits, last_counter, counters, taken, tokens, now)
  local index, longest, refusing, unit, place = 0, -1, 0, nil, nil
  for g = 1, limits[1] do
    local _, from, to, last_on_tokens = counter_of(limits, g)
    local counter, at = counters[g], 0
    for i = from, to, 2 do
      at = at + 3
      local amount, asked = limits[i + 1], at > last_on_tokens and 1 or tokens
      local missing = asked - (amount - counter[at])
      if missing > 0 then
        local waits = asked > amount and math.huge or wait(counter, at, limits[i], amount, missing, now)
        if waits > longest then
          longest, refusing, unit, place = waits, index, at > last_on_tokens and REQUESTS or TOKENS, i
        end
      end
      index = index + 1
    end
  end
  for n = 1, #taken do
    local missing = taken[n] + 1 - places_of(limits, n)
    if missing > 0 then
      local waits = place_wait(KEYS[last_counter + n], missing, now)
      if waits > longest then
        longest, refusing, unit, place = waits, index, IN_FLIGHT, n
      end
    end
    index = index + 1
  end
  return refusing, longest, unit, place
end

-- How the limits that bind stand: " index used reset" of each.
local function told(limits, last_counter, counters, taken, binding, now)
  local words = ''
  for unit = TOKENS, REQUESTS do
    local i = binding[unit]
    if i then
      local g = 1
      while g < limits[1] and i >= limits[3 * g + 4] do
        g = g + 1
      end
      local counter, at = counters[g], 3 + 3 * (i - limits[3 * g + 1]) / 2
      local resets = reset(counter, at, limits[i], limits[i + 1], now)
      words = words .. format(' %d %d %d', (i - limits[4]) / 2, counter[at], resets)
    end
  end
  local n = binding[IN_FLIGHT]
  if n then
    local index = (#limits - 2 - 3 * limits[1] - #taken) / 2 + n - 1
    words = words .. format(' %d %d %d', index, taken[n], latest_end(KEYS[last_counter + n], now))
  end
  return words
end
