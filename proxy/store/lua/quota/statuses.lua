-- Tell how each limit stands, changing nothing.
-- KEYS  1.. those of the compiled limits
-- ARGV  1 compiled limits
-- Returns "now [used reset]..." in the order of the compiled limits, reset in microseconds.

local now = clock()
local limits = compiled_limits(ARGV[1])
local found = redis.call('MGET', unpack(KEYS))
local told = text(now)
for g = 1, limits[1] do
  local codes, from, to = counter_of(limits, g)
  local counter, at = unpacked(found[g], codes, #codes), 0
  for i = from, to, 2 do
    at = at + 3
    local period, amount = limits[i], limits[i + 1]
    local used = bring(counter, at, period, amount, now)
    told = told .. format(' %d %d', used, reset(counter, at, period, amount, now))
  end
end
for g = limits[1] + 1, #KEYS do
  local used = redis.call('ZCOUNT', KEYS[g], text(now - PENDING_MS * 1000), '+inf')
  told = told .. format(' %d %d', used, latest_end(KEYS[g], now))
end
return told
