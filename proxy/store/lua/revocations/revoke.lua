-- Revoke one subject. The same again moves its moment to now.
-- KEYS  1 revoked
-- ARGV  1 subject, 2 until when (microseconds; 0 for until lifted), 3 most subjects
-- Returns "now done": done is 0 when the list is full of revocations that hold.

local now = clock()
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local till = tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
    if till > 0 and till <= now then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
  if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
    return text(now) .. ' 0'
  end
end
local version = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'version') or '0') + 1)
redis.call('HSET', KEYS[1], ARGV[1], text(now) .. ' ' .. ARGV[2], 'version', text(version))
return text(now) .. ' 1'
