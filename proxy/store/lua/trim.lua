-- Give back tokens that turned out not to be needed, while the request still runs. Once; the second call changes nothing.
-- KEYS  1 reservation, 2.. the counters of the limits on tokens
-- ARGV  1 request id, 2 tokens to give back
-- Returns "now trimmed", trimmed 1 if this call gave something back.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'holds', 'trimmed')
if known[1] ~= 'PENDING' or known[3] then
  return text(now) .. ' 0'
end

local spare, on_tokens, lines = tonumber(ARGV[2]), {}, {}
for i = 2, #KEYS do
  on_tokens[KEYS[i]] = true
end
for i, row in ipairs(held_rows(known[2], ARGV[1])) do
  if on_tokens[row.key] then
    local back = math.min(spare, row.held.cost)
    local left = row.held.cost - back
    row.held.cost = back
    post(row, now, 0)
    row.held.cost = left
  end
  lines[i] = hold_line(row, row.held.cost, row.held)
end
redis.call('HSET', KEYS[1], 'holds', table.concat(lines, '\n'), 'trimmed', '1')
return text(now) .. ' 1'
