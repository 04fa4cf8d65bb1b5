-- A plan's limits as proxy/store/compiled_limits.py packs them: one list of values.
--   1                how many counters they move
--   3 of a counter   the codes of its limits, as the counter has them; how many of them count tokens, which come first;
--                    where the first of its limits stands in this list
--   1 of a set       the amount of each limit in flight
--   2 of a limit     its period and its amount; the period of a rate in microseconds, of a window 0 a day and 1 a month
-- Their keys stand last among KEYS: those of the counters, then those of the sets of requests in flight.
--
-- What is packed begins with its own format. Two limits of a user, 9000 tokens a minute and 60 requests a day, are a
-- counter with the codes 4 and 7 (lib/counters.lua):
--   3c 42 73 42 42 49 64 49 64 00         the format, <BsBBIdId, and its end
--   01                                    one counter
--   04 07 00 01 05                        its codes and their end; one is on tokens; the fifth value begins its limits
--   00 87 93 03 00 00 00 00 00 94 c1 40   60000000 microseconds, 9000
--   00 00 00 00 00 00 00 00 00 00 4e 40   a day, 60
-- Numbers are packed by `struct`, since whatever becomes a string of Lua's is hashed byte by byte.

-- The longest window; every larger period is that of a rate.
local MONTH = 1

-- The list that is packed. Behind its last value is where unpack stopped.
local function compiled_limits(packed)
  local format, from = struct.unpack('s', packed)
  return {struct.unpack(format, packed, from)}
end

-- The codes of the g-th counter; where the first and the last of its limits stand; which place in the counter is the last
-- on tokens. Every walk over the limits asks this of each counter: a function called for each limit costs Redis more
-- than half as much again.
local function counter_of(limits, g)
  local codes, on_tokens, from = limits[3 * g - 1], limits[3 * g], limits[3 * g + 1]
  return codes, from, from + 2 * #codes - 2, 3 * on_tokens
end

-- The amount of the limit in flight whose set is the n-th.
local function places_of(limits, n)
  return limits[3 * limits[1] + 1 + n]
end
