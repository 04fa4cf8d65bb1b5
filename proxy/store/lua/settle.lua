-- Post what a request used, return the rest and append its FINAL record to the ledger. The first end wins.
-- A request without a reservation is charged all the same, unless it is being expired.
-- KEYS  1 reservation, 2 open index, 3 ledger stream, 4.. one counter for each limit
-- ARGV  1 request id, 2 member of the open index, 3 the end (SETTLED or EXPIRED), 4 "keep" lets the quota keep the
--       whole reservation, 5 how many arguments of limits follow, then five for each limit (lib/limits.lua; the fixed
--       cost is what was used), then the record's names and values
-- Returns "now entry first": entry is the id of its FINAL in the ledger, "-" where it has none; first is 1 if this
--       call ended it.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'entry', 'holds')
if known[1] and known[1] ~= 'PENDING' or not known[1] and ARGV[3] == 'EXPIRED' then
  -- A gateway that was only paused settles after it was swept: the place for a CORRECTION row with the difference.
  redis.call('ZREM', KEYS[2], ARGV[2])
  return table.concat({text(now), known[2] or '-', '0'}, ' ')
end

local record = 6 + tonumber(ARGV[5])
local costs, asked = {}, asked_rows(4, 6)
for _, row in ipairs(asked) do
  costs[row.key] = row.fixed
end
local rows = known[1] and held_rows(known[3], ARGV[1]) or asked
for _, row in ipairs(rows) do
  row.id = ARGV[1]
  local keeps = row.held and (ARGV[4] == 'keep' or not costs[row.key])
  post(row, now, keeps and row.held.cost or costs[row.key])
end

local entry = redis.call('XADD', KEYS[3], '*', 'kind', 'FINAL', unpack(ARGV, record))
finish(KEYS[1], KEYS[2], ARGV[2], ARGV[3], entry)
return table.concat({text(now), entry, '1'}, ' ')
