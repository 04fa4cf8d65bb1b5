"""
The Lua scripts by subject, each with the functions of `lua/lib/` that it needs in front of it.

Redis has no modules: a script is one text, and what stands in it is run at each call. What scripts share stands in
`lua/lib/` and is joined to them once, when this module is imported, in this order (a later file uses the earlier ones).
"""

from importlib.resources import files

from proxy.redis.script import Script

_LUA = files("proxy.store") / "lua"
LIMITS = ("numbers", "calendar", "compiled_limits", "counters")
"""What counts."""


def library(names: tuple[str, ...] = LIMITS) -> str:
    """Return the functions that a script begins with."""
    return "\n".join((_LUA / "lib" / f"{name}.lua").read_text() for name in names)


def _script(room: str, name: str, *libraries: str) -> Script:
    return Script(name, f"{library(libraries)}\n{(_LUA / room / f'{name}.lua').read_text()}")


RESERVE = _script("quota", "reserve", *LIMITS, "in_flight", "reservations", "admission")
PROGRESS = _script("quota", "progress", "numbers", "reservations", "lines")
TRIM = _script("quota", "trim", *LIMITS, "moves", "reservations", "lines")
SETTLE = _script("quota", "settle", *LIMITS, "moves", "reservations", "lines")
SUSPECT = _script("quota", "suspect", *LIMITS, "in_flight", "moves", "reservations", "lines")
RELEASE = _script("quota", "release", *LIMITS, "moves", "reservations", "lines")
CLAIM = _script("fleet", "claim", "numbers")
APPEND = _script("quota", "append", "numbers")
STATUSES = _script("quota", "statuses", *LIMITS, "in_flight")
GRANT = _script("quota", "grant", *LIMITS)
BEAT = _script("fleet", "beat", "numbers")
DEAD = _script("fleet", "dead", "numbers")
READY = _script("fleet", "ready", "numbers")
LIVING = _script("fleet", "living", "numbers")
REVOKE = _script("revocations", "revoke", "numbers")
LIFT = _script("revocations", "lift", "numbers")
RESTORE = _script("revocations", "restore", "numbers")
