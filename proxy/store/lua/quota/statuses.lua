-- Tell how each limit stands, changing nothing.
-- KEYS  1.. those of the line-up
-- ARGV  1 line-up (packed)
-- Returns "now [used reset]..." in the order of the line-up, reset in microseconds.

local now = clock()
local found = redis.call('MGET', unpack(KEYS))
local told = text(now)
local line_up, last = line_up_of(ARGV[1]), 1
for g = 1, line_up[1] do
  local codes = line_up[last + 1]
  local from = last + 3
  last = last + 2 + 2 * #codes
  local counter, at = unpacked(found[g], codes, #codes), 0
  for i = from, last, 2 do
    local code, amount = line_up[i], line_up[i + 1]
    at = at + 3
    local used = bring(counter, at, code, amount, now)
    told = told .. format(' %.0f %.0f', used, reset(counter, at, code, amount, now))
  end
end
for g = line_up[1] + 1, #KEYS do
  local used = redis.call('ZCOUNT', KEYS[g], text(now - PENDING_MS * 1000), '+inf')
  told = told .. format(' %.0f %.0f', used, latest_end(KEYS[g], now))
end
return told
