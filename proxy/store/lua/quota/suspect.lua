-- Take for SUSPECT what a gateway has open that nobody has heard of for long, and that may serve it still. Its places in
-- flight come back, and its rates as if it ended now; its windows keep all of it. Out of the index of what is open it
-- goes into one by the time when its exchange is certainly over. Repeated, it changes nothing.
-- KEYS  1 reservation, 2 open index, 3 index of what is suspect, 4.. those of the compiled limits
-- ARGV  1 request id, 2 member of both, 3 compiled limits, those that it was reserved with, 4 tokens that it is known to
--       have used, 5 tokens that rates keep beyond those, up to what was reserved, 6 within how many seconds an exchange
--       ends that does not say it, 7 how long its owner's own end may be on its way after that (microseconds)
-- Returns "now suspected", suspected 1 if this call did it.

local FIRST = 3

local now = clock()
local limits = compiled_limits(ARGV[3])
local found = redis.call('MGET', unpack(KEYS, 1, FIRST + limits[1]))
local head = head_of(found[1])
if head[1] ~= 'PENDING' or suspect_rates(head) then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return text(now) .. ' 0'
end

local held, tokens = tonumber(head[2]), tonumber(ARGV[4])
local kept = math.max(tokens, math.min(tokens + tonumber(ARGV[5]), held))
local since = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2])) or now
local lasts_s = string.match(head[#head], '^d(%d+)$') or ARGV[6]
move(limits, FIRST, found, numbers(head, 4), now, 0, 0, kept - held)
leave(limits, FIRST, ARGV[1])
-- Of the version that it was written in: its owner, who may return, may be of that one.
local lines = split(found[1], '\n')
local words, version = string.match(lines[1], '^(.-)( v%d+)$')
lines[1] = (words or lines[1]) .. ' s' .. text(kept) .. (version or '')
redis.call('SET', KEYS[1], table.concat(lines, '\n'), 'KEEPTTL')
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[3], text(since + tonumber(lasts_s) * 1000000 + tonumber(ARGV[7])), ARGV[2])
keep(KEYS[3])
return text(now) .. ' 1'
