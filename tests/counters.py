"""Counters as proxy/store/lua/lib/counters.lua keeps them, for tests that look at them or have time pass."""

import struct

_READ = """
local packed = redis.call('GET', KEYS[1])
local codes = packed and struct.unpack('s', packed) or ''
local layout = '<s' .. string.rep('d', 1 + 3 * #codes)
local counter = packed and {struct.unpack(layout, packed)}
"""
MOVED = f"""{_READ}
local at = 3 * string.find(codes, string.char(ARGV[1]), 1, true) + ARGV[2] - 1
counter[at] = counter[at] + ARGV[3]
redis.call('SET', KEYS[1], struct.pack(layout, unpack(counter)), 'KEEPTTL')
"""
"""KEYS: a counter. ARGV: the code of a limit, which of its numbers to move (END_DAY, SINCE), by how much."""
END_DAY, SINCE = 2, 3


def unpacked(packed: bytes) -> dict[int, tuple[int, ...]]:
    """Return what a counter says of each limit that was ever used: what is used, and the two numbers behind it."""
    codes, _, doubles = packed.partition(b"\0")
    _, *numbers = map(int, struct.unpack(f"<{1 + 3 * len(codes)}d", doubles))
    said = {code: tuple(numbers[3 * at : 3 * at + 3]) for at, code in enumerate(codes)}
    return {code: told for code, told in said.items() if any(told)}
