"""The functions of lua/lib, called one by one inside a real Redis, and the examples in their comments."""

import re
from collections.abc import Sequence

from redis import Redis

from proxy.store.scripts import LIMITS, library

_EXAMPLE = re.compile(r"^--   ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {3,}|$)", re.MULTILINE)


class Lua:
    """Evaluates Lua behind some files of lua/lib: `Lua(url)("divide(a1, a2)", 7, 2)` is `[3, 1]`."""

    def __init__(self, url: str, libraries: tuple[str, ...] = LIMITS) -> None:
        self.redis = Redis.from_url(url)
        self._library = library(libraries)

    def __call__(self, expressions: str, *args: int | bytes, keys: Sequence[str] = (), first: str = "") -> list[int]:
        """Return what a list of expressions is; `a1` is the first argument, `first` what is run before."""
        names = "".join(f"local a{i} = tonumber(ARGV[{i}]) or ARGV[{i}]\n" for i in range(1, len(args) + 1))
        body = (
            f"{first}\nlocal told = {{{expressions}}}\nfor i, v in ipairs(told) do told[i] = text(v) end\nreturn told"
        )
        return [int(word) for word in self.redis.eval(f"{self._library}\n{names}{body}", len(keys), *keys, *args)]


def example_in(name: str) -> bytes:
    """Return the bytes that the comment of a file of lua/lib shows, line by line."""
    return bytes.fromhex("".join(_EXAMPLE.findall(library((name,)))))
