-- Tell how each limit stands, changing nothing.
-- KEYS  1.. one for each group of the line-up
-- ARGV  1 line-up (JSON)
-- Returns "now [used reset]..." in the order of the line-up, reset in microseconds.

local now = clock()
local found = redis.call('MGET', unpack(KEYS))
local told = text(now)
for g, group in ipairs(cjson.decode(ARGV[1])) do
  if group[2] == 0 then
    local used = redis.call('ZCOUNT', KEYS[g], alive_at(now), '+inf')
    told = told .. format(' %.0f %.0f', used, latest_end(KEYS[g], now))
  else
    local counter, at = unpacked(found[g]), 2
    for i = 2, #group, 2 do
      at = place(counter, at, group[i])
      bring(counter, at, group[i], group[i + 1], now)
      told = told .. format(' %.0f %.0f', counter[at + 1], reset(counter, at, group[i + 1], now))
    end
  end
end
return told
