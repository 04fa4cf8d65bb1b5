"""
The Lua scripts, each with the functions of `lua/lib/` in front of it.

Redis has no modules: a script is one text. What scripts share stands in `lua/lib/` and is joined to each of them once,
when this module is imported, in the order of `_LIBRARY` (a later file uses the earlier ones).
"""

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files

_LUA = files("proxy.store") / "lua"
_LIBRARY = ("numbers", "calendar", "limits", "holds")


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


def library() -> str:
    """Return the functions that every script begins with."""
    return "\n".join((_LUA / "lib" / f"{name}.lua").read_text() for name in _LIBRARY)


def _script(name: str) -> Script:
    return Script(name, f"{library()}\n{(_LUA / f'{name}.lua').read_text()}")


RESERVE = _script("reserve")
PROGRESS = _script("progress")
TRIM = _script("trim")
SETTLE = _script("settle")
RELEASE = _script("release")
CLAIM = _script("claim")
APPEND = _script("append")
STANDINGS = _script("standings")
BEAT = _script("beat")
REVOKE = _script("revoke")
LIFT = _script("lift")
RESTORE = _script("restore")
