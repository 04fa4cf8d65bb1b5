-- What an end moves of a line-up's counters: the difference between what its reservation took and what it posts.

-- Move what is used of each limit on tokens and on requests. `ends` tells, for each window in turn, which one a
-- reservation was taken from, as lib/reservations.lua has them: another is not moved; nil moves the present one.
local function move(line_up, first, found, ends, now, tokens, requests)
  local last, window, before_last, last_end = 1, 0, nil, nil
  for g = first + 1, first + line_up[1] do
    local codes, on_tokens = line_up[last + 1], line_up[last + 2]
    local from = last + 3
    last = last + 2 + 2 * #codes
    local counter, at, lasts = nil, 0, 0
    for i = from, last, 2 do
      local code, amount = line_up[i], line_up[i + 1]
      local difference = code > 5 and requests or tokens
      if code > 7 and requests == 0 then
        -- Behind the windows on requests nothing is left to move or to count.
        break
      end
      at = at + 3
      if not PERIOD_US[code] then
        window = window + 1
        before_last, last_end = last_end, ends and ends[window] or before_last
      end
      if difference ~= 0 then
        counter = counter or unpacked(found[g], codes, requests == 0 and on_tokens or #codes)
        local used, lasts_one, after = bring(counter, at, code, amount, now)
        used = used + difference
        if after then
          if not ends or last_end == after then
            counter[at] = used > 0 and used or 0
          end
        elseif used > 0 then
          counter[at] = used < MAX and used or MAX
          if used > amount then
            -- In debt it lasts longer than a period.
            lasts_one = wait(counter, at, code, amount, counter[at], now)
          end
        else
          counter[at], counter[at + 1] = 0, 0
        end
        if lasts_one > lasts then
          lasts = lasts_one
        end
      end
    end
    if counter then
      save(KEYS[g], counter, lasts, now)
    end
  end
end

-- Give back a request's places in flight.
local function leave(line_up, first, id)
  for g = first + line_up[1] + 1, #KEYS do
    redis.call('ZREM', KEYS[g], id)
  end
end
