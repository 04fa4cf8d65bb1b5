-- Note how far an open reservation has come. Within an attempt neither count ever falls; a later attempt begins anew,
-- since what an earlier one used is billed to nobody, and a note of an earlier one comes too late.
-- KEYS  1 reservation
-- ARGV  1 attempt, 2 prompt tokens, 3 completion tokens ("-" and "-" as long as the engine has told nothing),
--       4 what else the sweeper's record shall say (JSON)
-- Returns "now state", state "-" where there is no such reservation.

local now = clock()
local known = redis.call('GET', KEYS[1])
local state = head_of(known)[1]
if state == 'PENDING' then
  local lines = split(known, '\n')
  local before = split(lines[7] or '0 - -', ' ')
  local attempt = tonumber(ARGV[1])
  if attempt >= tonumber(before[1]) then
    local prompt, completion = before[2], before[3]
    if attempt > tonumber(before[1]) then
      prompt, completion = '-', '-'
    end
    if ARGV[2] ~= '-' then
      prompt = text(math.max(tonumber(prompt) or 0, tonumber(ARGV[2])))
      completion = text(math.max(tonumber(completion) or 0, tonumber(ARGV[3])))
    end
    lines[7] = table.concat({ARGV[1], prompt, completion, ARGV[4]}, ' ')
    redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'KEEPTTL')
  end
end
return text(now) .. ' ' .. (state or '-')
