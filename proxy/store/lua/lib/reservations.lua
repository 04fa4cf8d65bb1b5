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
-- Its version stands in it as a word: that of an open one is the last of line 1, that of an ended one its last line. One
-- without it was written by an earlier release, and is of version 2 (proxy/versions.py). Words that are no numbers, behind
-- the windows, and lines behind the last are passed over.
-- Keys are percent-encoded, so they contain neither blanks nor line ends.

local VERSION, MARK = 2, 'v2'

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

-- The words of a reservation's first line, without its version; none where there is no reservation. One of a newer
-- version ends the script before it has changed anything.
local function head_of(known)
  if not known then
    return {}
  end
  local to = string.find(known, '\n', 1, true)
  local words = split(to and string.sub(known, 1, to - 1) or known, ' ')
  local version = string.match(words[#words], '^v(%d+)$')
  if version then
    words[#words] = nil
  else
    version = string.match(known, '\nv(%d+)$')
  end
  if version and tonumber(version) > VERSION then
    error('a reservation of version ' .. version)
  end
  return words
end

-- The numbers among words, from the first of them on.
local function numbers(words, first)
  local found = {}
  for i = first, #words do
    found[#found + 1] = tonumber(words[i])
  end
  return found
end

-- Keep how a reservation ended.
local function mark_ended(reservation, ended, alive_ms)
  redis.call('SET', reservation, ended .. '\n' .. MARK, 'PX', alive_ms)
end

local function finish(reservation, open, member, ended, alive_ms)
  mark_ended(reservation, ended, alive_ms)
  redis.call('ZREM', open, member)
end
