-- Tell who lives, by the clock that they beat by.
-- KEYS  1 incarnations
-- ARGV  1 how long nobody who lives is silent (microseconds)
-- Returns "now incarnation...".

local now = clock()
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], text(now - tonumber(ARGV[1])), '+inf')
return text(now) .. ' ' .. table.concat(alive, ' ')
