-- Lift the revocation of one subject.
-- KEYS  1 revoked
-- ARGV  1 subject
-- Returns "now lifted": lifted is 0 where it was not revoked.

local now = clock()
local version = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'version') or '0') + 1)
redis.call('HSET', KEYS[1], 'version', text(version))
return text(now) .. ' ' .. redis.call('HDEL', KEYS[1], ARGV[1])
