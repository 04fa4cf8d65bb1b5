-- Note what was generated so far on an open reservation; neither number ever falls.
-- KEYS  1 reservation
-- ARGV  1 prompt tokens, 2 completion tokens
-- Returns "now state", state "-" where there is no such reservation.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'prompt_tokens', 'completion_tokens')
if known[1] == 'PENDING' then
  redis.call('HSET', KEYS[1],
    'prompt_tokens', text(math.max(tonumber(known[2]) or 0, tonumber(ARGV[1]))),
    'completion_tokens', text(math.max(tonumber(known[3]) or 0, tonumber(ARGV[2]))))
end
return text(now) .. ' ' .. (known[1] or '-')
