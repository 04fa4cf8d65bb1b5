"""Counters as the scripts keep them (lua/lib/counters.lua), for tests that look at them or have time pass."""

UNPACKED = "local packed = redis.call('GET', KEYS[1]); return packed and cmsgpack.unpack(packed) or {0}"
"""KEYS: a counter. Returns its numbers."""
MOVED = """
local counter = cmsgpack.unpack(redis.call('GET', KEYS[1]))
for i = 2, #counter, 4 do
  if counter[i] == tonumber(ARGV[1]) then
    counter[i + tonumber(ARGV[2])] = counter[i + tonumber(ARGV[2])] + tonumber(ARGV[3])
  end
end
redis.call('SET', KEYS[1], cmsgpack.pack(counter), 'KEEPTTL')
"""
"""KEYS: a counter. ARGV: the code of a limit, which of its numbers to move (END_DAY, SINCE), by how much."""
END_DAY, SINCE = 2, 3


def by_code(numbers: list[int]) -> dict[int, tuple[int, ...]]:
    """Return what a counter says of each limit: what is used, and the two numbers behind it."""
    return {numbers[at]: tuple(numbers[at + 1 : at + 4]) for at in range(1, len(numbers), 4)}
