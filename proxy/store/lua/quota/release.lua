-- Return everything that was reserved, the request count too. A reservation that is not known is marked released, so
-- that a reserve which arrives later takes nothing. The client's own key for the request may be used again. One that a
-- sweep took for a dead gateway's was charged; that is returned too, and its FINAL, which bills nothing, stays.
-- KEYS  1 reservation, 2 open index, 3.. those of the compiled limits
-- ARGV  1 request id, 2 member of the open index, 3 compiled limits, those that it was reserved with
-- Returns "now state": the state it had before, "-" where there was none.

local FIRST = 2

local now = clock()
local limits = compiled_limits(ARGV[3])
local found = redis.call('MGET', unpack(KEYS, 1, FIRST + limits[1]))
local head = head_of(found[1])
local state = head[1]

if state == 'PENDING' then
  -- Looked at before anything is written: this key is not among KEYS, and where a cluster has moved it already, it fails.
  local once = split(found[1], '\n')[2]
  local mine = once ~= '-' and redis.call('GET', once) == ARGV[1]
  local of_rates = suspect_rates(head)
  move(limits, FIRST, found, numbers(head, 4), now, -tonumber(head[2]), -1, of_rates and -of_rates)
  leave(limits, FIRST, ARGV[1])
  if of_rates then
    redis.call('ZREM', suspects_beside(KEYS[2]), ARGV[2])
  end
  if mine then
    redis.call('DEL', once)
  end
elseif state == 'EXPIRED' and not head[4] then
  local lines = split(found[1], '\n')
  local held = split(lines[2], ' ')
  move(limits, FIRST, found, numbers(held, 3), now, -tonumber(held[2]), -1)
  mark_ended(KEYS[1], lines[1] .. ' -', MARKER_MS)
end
if not state or state == 'PENDING' then
  finish(KEYS[1], KEYS[2], ARGV[2], 'RELEASED - -', state and MARKER_MS or LATE_MS)
end
return text(now) .. ' ' .. (state or '-')
