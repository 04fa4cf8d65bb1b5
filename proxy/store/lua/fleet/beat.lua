-- Say that a gateway lives.
-- KEYS  1 incarnations
-- ARGV  1 incarnation, 2 how long a silent one is remembered (microseconds)
-- Returns "now added": added is 1 if Redis did not know it (its first beat, or Redis lost its memory).

local now = clock()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - tonumber(ARGV[2])))
return text(now) .. ' ' .. redis.call('ZADD', KEYS[1], text(now), ARGV[1])
