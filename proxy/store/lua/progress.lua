-- Note how far an open reservation has come. Within an attempt neither count ever falls; a later attempt begins anew,
-- since what an earlier one used is billed to nobody, and a note of an earlier one comes too late.
-- KEYS  1 reservation
-- ARGV  1 attempt, 2 prompt tokens, 3 completion tokens ("-" and "-" as long as the engine has told nothing),
--       4 what else the sweeper's record shall say (JSON)
-- Returns "now state", state "-" where there is no such reservation.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'prompt_tokens', 'completion_tokens')
local before, attempt = tonumber(known[2]) or 0, tonumber(ARGV[1])
if known[1] == 'PENDING' and attempt >= before then
  redis.call('HSET', KEYS[1], 'attempt', ARGV[1], 'noted', ARGV[4])
  local prompt, completion = tonumber(known[3]) or 0, tonumber(known[4]) or 0
  if attempt > before then
    redis.call('HDEL', KEYS[1], 'prompt_tokens', 'completion_tokens')
    prompt, completion = 0, 0
  end
  if ARGV[2] ~= '-' then
    redis.call('HSET', KEYS[1],
      'prompt_tokens', text(math.max(prompt, tonumber(ARGV[2]))),
      'completion_tokens', text(math.max(completion, tonumber(ARGV[3]))))
  end
end
return text(now) .. ' ' .. (known[1] or '-')
