"""
The Lua scripts, each with the functions of `lua/lib/` that it needs in front of it.

Redis has no modules: a script is one text, and what stands in it is run at each call. What scripts share stands in
`lua/lib/` and is joined to them once, when this module is imported, in this order (a later file uses the earlier ones).
"""

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files

_LUA = files("proxy.store") / "lua"
_LIMITS = ("numbers", "calendar", "counters")


@dataclass(frozen=True, slots=True)
class Script:
    """One script, known to Redis by the SHA-1 of its text."""

    name: str
    """What `tollway_redis_seconds{op}` calls it."""
    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the name that EVALSHA takes."""
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


def library(names: tuple[str, ...] = _LIMITS) -> str:
    """Return the functions that a script begins with."""
    return "\n".join((_LUA / "lib" / f"{name}.lua").read_text() for name in names)


def _script(name: str, *libraries: str) -> Script:
    return Script(name, f"{library(libraries)}\n{(_LUA / f'{name}.lua').read_text()}")


RESERVE = _script("reserve", *_LIMITS, "in_flight", "reservations")
PROGRESS = _script("progress", "numbers", "reservations")
TRIM = _script("trim", *_LIMITS, "moves", "reservations")
SETTLE = _script("settle", *_LIMITS, "moves", "reservations")
RELEASE = _script("release", *_LIMITS, "moves", "reservations")
CLAIM = _script("claim", "numbers")
APPEND = _script("append", "numbers")
STANDINGS = _script("standings", *_LIMITS, "in_flight")
BEAT = _script("beat", "numbers")
LIVING = _script("living", "numbers")
REVOKE = _script("revoke", "numbers")
LIFT = _script("lift", "numbers")
RESTORE = _script("restore", "numbers")
