-- Hold, or go on holding, the right to append a late record.
-- KEYS  1 guard
-- ARGV  1 who, 2 for how long (milliseconds)
-- Returns "now held", held 1 if it is the caller's.

local now = clock()
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return text(now) .. ' 0'
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return text(now) .. ' 1'
