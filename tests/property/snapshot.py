"""All that a Redis holds, read in one trip: who looks after every step cannot ask for each key by itself."""

from dataclasses import dataclass
from typing import Any, Self

from redis import Redis
from redis.commands.core import Script

from tests.counters import unpacked

_EVERYTHING = """
local read = {
  string = function(key) return redis.call('GET', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = {key, redis.call('PTTL', key), read[redis.call('TYPE', key).ok](key)}
end
return found
"""


@dataclass(frozen=True)
class Snapshot:
    """What stood under each key at one instant."""

    held: dict[str, Any]
    """As Redis answers it, in bytes."""
    ends_ms: dict[str, int]
    """How long each key is kept yet; below 0 for ever."""

    @classmethod
    def taken_by(cls, everything: Script) -> Self:
        """Return what there is now."""
        found = everything()
        return cls(
            {key.decode(): value for key, _, value in found}, {key.decode(): ends_ms for key, ends_ms, _ in found}
        )

    def text(self, key: str) -> str:
        """Return the value of a key that is there."""
        value: bytes = self.held[key]
        return value.decode()

    def counter(self, key: str) -> dict[int, tuple[int, ...]]:
        """Return what a counter says of each limit; nothing where there is none."""
        return unpacked(self.held[key]) if key in self.held else {}

    def scores(self, key: str) -> dict[str, float]:
        """Return the members of a sorted set; none where there is no set."""
        words = iter(self.held.get(key, ()))
        return {member.decode(): float(score) for member, score in zip(words, words, strict=True)}

    def entries(self, key: str) -> list[dict[str, str]]:
        """Return the fields of each entry of a stream; none where there is no stream."""
        decoded = [[word.decode() for word in fields] for _, fields in self.held.get(key, ())]
        return [dict(zip(words[::2], words[1::2], strict=True)) for words in decoded]


def everything(redis: Redis) -> Script:
    """Return the script that a snapshot is taken by, of a client that decodes nothing."""
    return redis.register_script(_EVERYTHING)
