-- Note who is proven dead: so nothing that they left open is served any more.
-- KEYS  1 the dead
-- ARGV  1 how long that is remembered (milliseconds), 2.. incarnations
-- Returns "now".

local now = clock()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - tonumber(ARGV[1]) * 1000))
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], text(now), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return text(now)
