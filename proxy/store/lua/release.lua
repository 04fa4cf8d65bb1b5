-- Return everything that was reserved, the request count too. A reservation that is not known is marked released, so
-- that a reserve which arrives later takes nothing. The client's own key for the request may be used again. One that a
-- sweep took for a dead gateway's was charged; that is returned too, and its FINAL, which bills nothing, stays.
-- KEYS  1 reservation, 2 open index, 3.. one counter for each limit
-- ARGV  1 request id, 2 member of the open index
-- Returns "now state": the state it had before, "-" where there was none.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'holds', 'once', 'posted')
if known[1] == 'PENDING' then
  for _, row in ipairs(held_rows(known[2], ARGV[1])) do
    post(row, now, 0)
  end
  if known[3] and redis.call('GET', known[3]) == ARGV[1] then
    redis.call('DEL', known[3])
  end
end
if known[1] == 'EXPIRED' and known[4] then
  local posted = numbers_of(known[4])
  for i, row in ipairs(held_rows(known[2], ARGV[1])) do
    correct(row, now, -posted[i])
  end
  redis.call('HDEL', KEYS[1], 'holds', 'posted', 'billed')
  redis.call('HSET', KEYS[1], 'corrected_by', '-')
end
if not known[1] or known[1] == 'PENDING' then
  finish(KEYS[1], KEYS[2], ARGV[2], 'RELEASED', '-', not known[1] and LATE_MS or nil)
end
return text(now) .. ' ' .. (known[1] or '-')
