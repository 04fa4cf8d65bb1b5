-- Append a late record to the ledger, for who still holds the right to it; the right is used up by it.
-- KEYS  1 guard, 2 ledger stream
-- ARGV  1 who, 2 how long the used guard stays (milliseconds), 3 FINAL or CORRECTION, 4 record (JSON)
-- Returns "now entry", entry "-" where the right is not the caller's (any more).

local now = clock()
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return text(now) .. ' -'
end
local entry = redis.call('XADD', KEYS[2], '*', 'kind', ARGV[3], 'record', ARGV[4])
redis.call('SET', KEYS[1], entry, 'PX', ARGV[2])
return text(now) .. ' ' .. entry
