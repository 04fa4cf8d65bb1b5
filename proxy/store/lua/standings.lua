-- Tell how each limit stands, changing nothing.
-- KEYS  1.. one counter for each limit
-- ARGV  five for each limit (lib/limits.lua); the costs are not read
-- Returns "now [used reset]...", reset in microseconds.

local now = clock()
local rows, counters = asked_rows(1, 1), {}
for i, row in ipairs(rows) do
  counters[i] = kinds[row.kind].load(row, now)
end
return text(now) .. ' ' .. standings(rows, counters)
