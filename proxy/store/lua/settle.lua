-- Post what a request used, return the rest and append its FINAL record to the ledger. The first end wins.
-- A request without a reservation is charged all the same, unless it is being expired.
-- KEYS  1 reservation, 2 open index, 3 ledger stream, 4.. one counter for each limit
-- ARGV  1 request id, 2 member of the open index, 3 the end (SETTLED or EXPIRED), 4 the incarnation that ends it,
--       5 "keep" lets the quota keep the whole reservation, 6 how many arguments of limits follow, then five for each
--       limit (lib/limits.lua; the fixed cost is what was used), then the record's names and values
-- Returns "now entry ours": entry is the id of its FINAL in the ledger, "-" where it has none; ours is 1 if this end
--       wrote it, now or when the same incarnation sent it before.

local now = clock()
local known = redis.call('HMGET', KEYS[1], 'state', 'entry', 'holds', 'by')
if known[1] and known[1] ~= 'PENDING' or not known[1] and ARGV[3] == 'EXPIRED' then
  -- A gateway that was only paused settles after it was swept: the place for a CORRECTION row with the difference.
  redis.call('ZREM', KEYS[2], ARGV[2])
  local ours = known[1] == ARGV[3] and known[4] == ARGV[4]
  return table.concat({text(now), known[2] or '-', ours and '1' or '0'}, ' ')
end

local record = 7 + tonumber(ARGV[6])
local costs, asked = {}, asked_rows(4, 7)
for _, row in ipairs(asked) do
  costs[row.key] = row.fixed
end
local rows = known[1] and held_rows(known[3], ARGV[1]) or asked
for _, row in ipairs(rows) do
  row.id = ARGV[1]
  local keeps = row.held and (ARGV[5] == 'keep' or not costs[row.key])
  post(row, now, keeps and row.held.cost or costs[row.key])
end

local entry = redis.call('XADD', KEYS[3], '*', 'kind', 'FINAL', unpack(ARGV, record))
finish(KEYS[1], KEYS[2], ARGV[2], ARGV[3], entry)
redis.call('HSET', KEYS[1], 'by', ARGV[4])
return table.concat({text(now), entry, '1'}, ' ')
