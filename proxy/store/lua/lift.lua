-- Lift the revocation of one subject.
-- KEYS  1 revoked
-- ARGV  1 subject
-- Returns "now lifted": lifted is 0 where it was not revoked.

local now = text(clock())
redis.call('HSET', KEYS[1], 'version', now)
return now .. ' ' .. redis.call('HDEL', KEYS[1], ARGV[1])
