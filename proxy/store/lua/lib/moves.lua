-- What an end moves of a plan's limits: the difference between what its reservation took and what it posts.

-- Move what is used of one limit, of a window only the one that `after` is the first day behind, or any where that is
-- nil. Return for how long the limit says something.
local function move_one(counter, at, period, amount, difference, after, now)
  local used, lasts, present = bring(counter, at, period, amount, now)
  used = used + difference
  if present then
    if not after or after == present then
      counter[at] = used
    end
    return lasts
  end
  if used <= 0 then
    counter[at], counter[at + 1] = 0, 0
    return lasts
  end
  counter[at] = used < MAX and used or MAX
  -- In debt it lasts longer than a period.
  return used > amount and wait(counter, at, period, amount, counter[at], now) or lasts
end

-- Move what is used of each limit on tokens and on requests. `ends` tells which windows the reservation was taken from,
-- as `open_reservation` shortened it: others are not moved; nil moves the present ones. Where `of_rates` is told, rates
-- on tokens move by it and windows alone by `tokens`.
local function move(limits, first, found, ends, now, tokens, requests, of_rates)
  local window = 0
  for g = 1, limits[1] do
    local codes, from, to, last_on_tokens = counter_of(limits, g)
    local counter, at, lasts = nil, 0, 0
    for i = from, to, 2 do
      at = at + 3
      local period, difference = limits[i], at > last_on_tokens and requests or tokens
      local after
      if period <= MONTH then
        window = window + 1
        if ends then
          -- No window ends on day 0, so where none is told it moves none.
          ends[window] = ends[window] or ends[window - 2] or 0
          after = ends[window]
        end
      elseif of_rates and at <= last_on_tokens then
        difference = of_rates
      end
      if difference ~= 0 then
        counter = counter or unpacked(found[first + g], codes, requests == 0 and last_on_tokens / 3 or #codes)
        lasts = math.max(lasts, move_one(counter, at, period, limits[i + 1], difference, after, now))
      end
    end
    if counter then
      save(KEYS[first + g], counter, lasts, now)
    end
  end
end

-- Give back a request's places in flight.
local function leave(limits, first, id)
  for g = first + limits[1] + 1, #KEYS do
    redis.call('ZREM', KEYS[g], id)
  end
end
