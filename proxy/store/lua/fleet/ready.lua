-- Tell whether a request could be reserved and settled now, by doing what both do, on a key of its own that goes at once.
-- KEYS  1 the trial
-- ARGV  1 who tries, 2 how long it may stay (milliseconds)
-- Returns "now".

local now = clock()
redis.call('MGET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SETRANGE', KEYS[1], '0', ARGV[1])
redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
redis.call('ZCARD', KEYS[1])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[1], '*', 'kind', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[1])
return text(now)
