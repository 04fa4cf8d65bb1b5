"""Counters as the scripts keep them (lua/lib/counters.lua), for tests that look at them or have time pass."""

_READ = """
local packed = redis.call('GET', KEYS[1])
local codes = packed and struct.unpack('s', packed) or ''
local layout = '<s' .. string.rep('d', 1 + 3 * #codes)
local counter = packed and {struct.unpack(layout, packed)}
"""
UNPACKED = f"""{_READ}
local numbers = {{packed and counter[2] or 0}}
for k = 1, #codes do
  for i, number in ipairs({{string.byte(codes, k), unpack(counter, 3 * k, 3 * k + 2)}}) do
    numbers[4 * k + i - 3] = number
  end
end
return numbers
"""
"""KEYS: a counter. Returns its numbers."""
MOVED = f"""{_READ}
local at = 3 * string.find(codes, string.char(ARGV[1]), 1, true) + ARGV[2] - 1
counter[at] = counter[at] + ARGV[3]
redis.call('SET', KEYS[1], struct.pack(layout, unpack(counter)), 'KEEPTTL')
"""
"""KEYS: a counter. ARGV: the code of a limit, which of its numbers to move (END_DAY, SINCE), by how much."""
END_DAY, SINCE = 2, 3


def by_code(numbers: list[int]) -> dict[int, tuple[int, ...]]:
    """Return what a counter says of each limit that was ever used: what is used, and the two numbers behind it."""
    said = {numbers[at]: tuple(numbers[at + 1 : at + 4]) for at in range(1, len(numbers), 4)}
    return {code: told for code, told in said.items() if any(told)}
