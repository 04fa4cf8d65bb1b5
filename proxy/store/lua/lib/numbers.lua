-- Integers in Lua's doubles, exact below 2^53: nothing here rounds. See proxy/store/scripts.py for who gets this file.

local MAX = 9007199254740991
local format, floor, fmod = string.format, math.floor, math.fmod

-- The server's time in microseconds since the epoch: the only clock.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- An integer as Redis and the gateways read it. `%d` takes a third of the time of `%.0f`, and is exact where a C long has
-- 64 bits: proxy/redis/client.py refuses others.
local function text(number)
  return format('%d', number)
end

-- floor(a / b) and what remains.
local function divide(a, b)
  local rest = fmod(a, b)
  return (a - rest) / b, rest
end

-- floor(x * y / d) and what remains, exact though the product may have 106 bits; the quotient must stay below 2^53.
-- What 2^53 does not hold is multiplied in two halves of 16 bits; where those do not fit either, bit by bit, keeping
-- quotient and rest of what it has so far.
local function multiply_divide(x, y, d)
  if x * y <= MAX then
    return divide(x * y, d)
  end
  local whole, part = divide(x, d)
  if d <= 4294967296 and y <= 4294967296 then
    local high, low = divide(y, 65536)
    local first, rest = divide(part * high, d)
    local second, last = divide(rest * 65536 + part * low, d)
    return whole * y + first * 65536 + second, last
  end
  local quotient, rest, bits, bit = 0, 0, y, 2 ^ 52
  while bit >= 1 do
    local carry = rest >= d - rest
    quotient = quotient + quotient + (carry and 1 or 0)
    rest = carry and rest - (d - rest) or rest + rest
    if bits >= bit then
      bits = bits - bit
      carry = rest >= d - part
      quotient = quotient + (carry and 1 or 0)
      rest = carry and rest - (d - part) or rest + part
    end
    bit = bit / 2
  end
  return whole * y + quotient, rest
end
