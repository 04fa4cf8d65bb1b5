"""
The Lua scripts by subject, each with the functions of `lua/lib/` that it needs in front of it.

Redis has no modules: a script is one text, and what stands in it is run at each call. What scripts share stands in
`lua/lib/` and is joined to them once, when this module is imported, in this order (a later file uses the earlier ones).
"""

from importlib.resources import files

from proxy.redis.script import Script

_LUA = files("proxy.store") / "lua"
_LIMITS = ("numbers", "calendar", "counters")


def library(names: tuple[str, ...] = _LIMITS) -> str:
    """Return the functions that a script begins with."""
    return "\n".join((_LUA / "lib" / f"{name}.lua").read_text() for name in names)


def _script(room: str, name: str, *libraries: str) -> Script:
    return Script(name, f"{library(libraries)}\n{(_LUA / room / f'{name}.lua').read_text()}")


RESERVE = _script("quota", "reserve", *_LIMITS, "in_flight", "reservations")
PROGRESS = _script("quota", "progress", "numbers", "reservations")
TRIM = _script("quota", "trim", *_LIMITS, "moves", "reservations")
SETTLE = _script("quota", "settle", *_LIMITS, "moves", "reservations")
RELEASE = _script("quota", "release", *_LIMITS, "moves", "reservations")
CLAIM = _script("fleet", "claim", "numbers")
APPEND = _script("quota", "append", "numbers")
STATUSES = _script("quota", "statuses", *_LIMITS, "in_flight")
BEAT = _script("fleet", "beat", "numbers")
LIVING = _script("fleet", "living", "numbers")
REVOKE = _script("revocations", "revoke", "numbers")
LIFT = _script("revocations", "lift", "numbers")
RESTORE = _script("quota", "restore", "numbers")
