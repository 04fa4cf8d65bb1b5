-- Revoke one subject. The same again moves its moment to now.
-- KEYS  1 revoked
-- ARGV  1 subject, 2 since when (microseconds; empty for now), 3 until when (0 for until lifted), 4 most subjects
-- Returns "now done": done is 0 when the list is full of revocations that hold.

local now = clock()
local version = text(now)
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local till = tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
    if till > 0 and till <= now then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
  if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
    return version .. ' 0'
  end
end
redis.call('HSET', KEYS[1], ARGV[1], (ARGV[2] == '' and version or ARGV[2]) .. ' ' .. ARGV[3], 'version', version)
return version .. ' 1'
