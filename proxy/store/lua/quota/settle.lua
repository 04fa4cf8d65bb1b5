-- Post what a request used, return the rest and append its FINAL record to the ledger. The first end wins; a settle
-- that comes after its reservation was EXPIRED appends one CORRECTION with what it knows better, and moves the limits
-- to where they were had it come first.
-- KEYS  1 reservation, 2 open index, 3 the tenant's data generation, 4 ledger stream, 5.. those of the compiled limits
-- ARGV  1 request id, 2 member of the open index, 3 data generation, 4 the end (SETTLED or EXPIRED), 5 the incarnation
--       that ends it, 6 tokens that the quota keeps beyond those used, up to what was reserved (ALL is all of it),
--       7 "charge" or "leave" a request without a reservation, 8 compiled limits, those that it was reserved with,
--       9 tokens used, 10 record (JSON: its version, what is COUNTED, the rest), 11 "1" where the client's own key for
--       the request may be used again
-- Returns "now foreign", or "now entry ours corrected [difference]...": entry is the id of its FINAL in the ledger, "-"
--       where it was released, "?" where it is not known and left; ours is 1 if this end wrote it, now or when the same
--       incarnation sent it before; corrected likewise of the CORRECTION, with its six differences in the order of
--       COUNTED.

local FIRST = 4
local ALL = 2 ^ 53 - 1
local COUNTED = '^(%[%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$'
local CHARGE, LAST = 4, 6

local now = clock()
local limits = compiled_limits(ARGV[8])
local found = redis.call('MGET', unpack(KEYS, 1, FIRST + limits[1]))
if found[3] ~= ARGV[3] then
  return text(now) .. ' foreign'
end

local head = head_of(found[1])
local state = head[1]
local tokens, beyond = tonumber(ARGV[9]), tonumber(ARGV[6])

-- What the limits on tokens keep of a reservation.
local function kept(reserved)
  return math.max(tokens, math.min(tokens + beyond, reserved))
end

-- a - b as text, of natural numbers written out with up to 27 digits, which a double does not hold: their last twelve
-- digits by themselves.
local function subtract(a, b)
  local high = (tonumber(string.sub(a, 1, -13)) or 0) - (tonumber(string.sub(b, 1, -13)) or 0)
  local low = tonumber(string.sub(a, -12)) - tonumber(string.sub(b, -12))
  if high > 0 and low < 0 then
    high, low = high - 1, low + 1000000000000
  elseif high < 0 and low > 0 then
    high, low = high + 1, low - 1000000000000
  end
  return high == 0 and text(low) or format('%d%012d', high, math.abs(low))
end

if not state and ARGV[7] == 'leave' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return text(now) .. ' ? 0 0'
end

if state and state ~= 'PENDING' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  local told = '0'
  if state == 'EXPIRED' and ARGV[4] == 'SETTLED' and head[4] == ARGV[5] then
    told = '1 ' .. table.concat(head, ' ', 5)
  elseif state == 'EXPIRED' and ARGV[4] == 'SETTLED' and not head[4] then
    -- Move every limit from what the sweep posted to what this end posts, and the bill likewise.
    local lines = split(found[1], '\n')
    local held = split(lines[2], ' ')
    move(limits, FIRST, found, numbers(held, 3), now, kept(tonumber(held[1])) - tonumber(held[2]), 0)
    local record, billed, differences = {string.match(ARGV[10], COUNTED)}, split(lines[3], ' '), {}
    if not billed[LAST] then
      billed[CHARGE], billed[LAST] = billed[CHARGE] .. '000000', '0'
    end
    for i = 1, LAST do
      differences[i] = subtract(record[i + 1], billed[i])
    end
    redis.call('XADD', KEYS[4], '*', 'kind', 'CORRECTION',
      'record', table.concat({record[1], table.concat(differences, ','), record[LAST + 2]}, ','))
    mark_ended(KEYS[1], table.concat({lines[1], ARGV[5], unpack(differences)}, ' '), MARKER_MS)
    told = '1 ' .. table.concat(differences, ' ')
  end
  local ours = state == ARGV[4] and head[3] == ARGV[5]
  return table.concat({text(now), head[2], ours and '1' or '0', told}, ' ')
end

local held, of_rates = state and tonumber(head[2]) or 0, state and suspect_rates(head)
local posted = state and kept(held) or beyond < ALL and tokens + beyond or tokens
-- Looked at before anything is written: this key is not among KEYS, and where a cluster has moved it already, it fails.
local once = ARGV[11] == '1' and ARGV[4] == 'SETTLED' and state and split(found[1], '\n')[2] or '-'
local frees = once ~= '-' and redis.call('GET', once) == ARGV[1]
move(limits, FIRST, found, state and numbers(head, 4), now, posted - held, state and 0 or 1, of_rates and posted - of_rates)
leave(limits, FIRST, ARGV[1])
if frees then
  redis.call('DEL', once)
end
local entry = redis.call('XADD', KEYS[4], '*', 'kind', 'FINAL', 'record', ARGV[10])
local marker = ARGV[4] .. ' ' .. entry .. ' ' .. ARGV[5]
if ARGV[4] == 'EXPIRED' then
  -- Its gateway may only have been paused: what a CORRECTION is the difference to.
  local windows, billed = table.concat(head, ' ', 4), {string.match(ARGV[10], COUNTED)}
  marker = format('%s\n%d %d%s\n', marker, held, posted, windows == '' and '' or ' ' .. windows)
    .. table.concat(billed, ' ', 2, LAST + 1)
end
finish(KEYS[1], KEYS[2], ARGV[2], marker, MARKER_MS)
if of_rates then
  redis.call('ZREM', suspects_beside(KEYS[2]), ARGV[2])
end
return text(now) .. ' ' .. entry .. ' 1 0'
