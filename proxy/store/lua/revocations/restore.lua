-- Put back revocations that Redis lost; one that is there already stays as it is.
-- KEYS  1 revoked
-- ARGV  1 the version of whoever knows them, 2.. subject and "since until" by turns
-- Returns "now".

local now = clock()
for i = 2, #ARGV, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
local known = math.max(tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'version') or '0'))
redis.call('HSET', KEYS[1], 'version', text(math.max(now, known + 1)))
return text(now)
