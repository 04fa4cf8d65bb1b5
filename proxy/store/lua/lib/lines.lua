-- The lines and words of a reservation that is kept (lib/reservations.lua), and its end.

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

-- The tokens that rates keep of an open reservation that is SUSPECT; nil of one that is not.
local function suspect_rates(head)
  return tonumber(string.match(head[#head], '^s(%d+)$'))
end

-- The index of what is SUSPECT, beside that of what is open: only touched where something is.
local function suspects_beside(open)
  return open .. ':suspect'
end

-- Keep how a reservation ended.
local function mark_ended(reservation, ended, alive_ms)
  redis.call('SET', reservation, ended .. '\n' .. MARK, 'PX', alive_ms)
end

local function finish(reservation, open, member, ended, alive_ms)
  mark_ended(reservation, ended, alive_ms)
  redis.call('ZREM', open, member)
end
