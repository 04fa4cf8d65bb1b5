-- Give more of one limit, by an operator's word: of a window beyond its amount, until it ends; of a rate at most what
-- makes it full. Repeated, it tells its first answer again.
-- KEYS  1 the grant, 2 the counter
-- ARGV  1 compiled limits: one rate or window alone, 2 how much more ("-": all that is used), 3 how long the grant is
--       remembered (milliseconds)
-- Returns "now was used reset": used before and after, reset in microseconds.

local known = redis.call('GET', KEYS[1])
if known then
  return known
end
local now = clock()
local limits = compiled_limits(ARGV[1])
local codes, i = counter_of(limits, 1)
local period, amount = limits[i], limits[i + 1]
local counter = unpacked(redis.call('GET', KEYS[2]), codes, 1)
local was, lasts = bring(counter, 3, period, amount, now)
local used = math.max(was - (tonumber(ARGV[2]) or math.max(was, 0)), amount - MAX)
if period > MONTH and used <= 0 then
  used, counter[4] = 0, 0
end
counter[3] = used
-- In debt it lasts longer than a period.
save(KEYS[2], counter, used > amount and wait(counter, 3, period, amount, used, now) or lasts, now)
local answer = format('%d %d %d %d', now, was, used, reset(counter, 3, period, amount, now))
redis.call('SET', KEYS[1], answer, 'PX', ARGV[3])
return answer
