-- Give back tokens that turned out not to be needed, while the request still runs. Once; the second call changes nothing.
-- Of a SUSPECT one the windows keep all until it ends.
-- KEYS  1 reservation, 2.. those of the compiled limits
-- ARGV  1 tokens to give back, 2 compiled limits, those that it was reserved with
-- Returns "now trimmed", trimmed 1 if this call gave something back.

local now = clock()
local found = redis.call('MGET', unpack(KEYS))
local head = head_of(found[1])
if head[1] ~= 'PENDING' or head[3] == '1' or suspect_rates(head) then
  return text(now) .. ' 0'
end

local held = tonumber(head[2])
local back = math.min(tonumber(ARGV[1]), held)
move(compiled_limits(ARGV[2]), 1, found, numbers(head, 4), now, -back, 0)
local lines = split(found[1], '\n')
head[2], head[3] = text(held - back), '1'
lines[1] = table.concat(head, ' ') .. ' ' .. MARK
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'KEEPTTL')
return text(now) .. ' 1'
