-- A reservation as it is kept: one string of lines.
-- Open:  1 PENDING, the tokens it holds, 1 if it was trimmed, then the first day after each window it was taken from, as
--        far as they are not each the one before the last again, as month and day in turn are
--        2 the client's own key for the request, "-" where it gave none  3 the decision
--        4 the record as far as it was known  5 the line-up  6 the price (all JSON, for the sweeper alone)
--        7 once it has made progress: attempt, prompt and completion tokens ("-": not told yet), what else is known (JSON)
-- Ended: 1 SETTLED, EXPIRED or RELEASED, the id of its FINAL, the incarnation that ended it; then who corrected it and
--        by what, if anybody did
--        2 of an expired one that may still be corrected: what it held of tokens and what was posted, then the windows
--        3 what was billed, in the order of COUNTED
-- Keys are percent-encoded, so they contain neither blanks nor line ends.

-- How long an end is remembered, as text for Redis: two hours.
local MARKER_MS = '7200000'
-- A release that overtook its reserve is remembered for as long as that reserve may still be on its way: five minutes.
local LATE_MS = '300000'

local function split(whole, separator)
  local parts, from = {}, 1
  while true do
    local to = string.find(whole, separator, from, true)
    if not to then
      parts[#parts + 1] = string.sub(whole, from)
      return parts
    end
    parts[#parts + 1] = string.sub(whole, from, to - 1)
    from = to + 1
  end
end

-- The words of a reservation's first line; none where there is no reservation.
local function head_of(known)
  if not known then
    return {}
  end
  local to = string.find(known, '\n', 1, true)
  return split(to and string.sub(known, 1, to - 1) or known, ' ')
end

-- The numbers among words, from the first of them on.
local function numbers(words, first)
  local found = {}
  for i = first, #words do
    found[#found + 1] = tonumber(words[i])
  end
  return found
end

local function finish(reservation, open, member, marker, alive_ms)
  redis.call('SET', reservation, marker, 'PX', alive_ms)
  redis.call('ZREM', open, member)
end
