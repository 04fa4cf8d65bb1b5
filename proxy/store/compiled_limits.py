"""
A plan's limits as the scripts take them, and as they are kept with a reservation: made once for each plan.

What is kept is JSON: one group for each key that the plan moves, `["user", code, amount, code, amount]`. All rates and
windows of one scope share a key, its counter; requests in flight have one of their own and the code 0. Which unit and
period a code means stands in `_CODES`, and in lua/lib/counters.lua. The order is that of a decision (`in_order`). What
the scripts take is packed, and told byte by byte in lua/lib/compiled_limits.lua.
"""

import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from itertools import chain, groupby
from struct import pack
from typing import Any

import orjson

from policies.quota import PERIOD_US, Limit, Per, Scope, Unit, in_order
from proxy.store import keys
from proxy.store.keys import Template

KNOWN_MAX = 1024
"""Compiled plans that are remembered: those of a config, and of the configs before it."""
TEMPLATES_MAX = 8_192
"""
Pairs of tenant and model for which a plan remembers its keys but for the user, which saves a request 1.7 microseconds
where it has one key and 12 where it has all eight. Of users nothing is remembered: there may be any number.
"""

PLAIN_BYTES_MAX = 160
"""A longer text is compressed: a third of it is left, and each request carries it three times, to disks too."""

_PERIODS_IN_ORDER = (Per.MONTH, Per.DAY, Per.HOUR, Per.MINUTE, Per.SECOND)
_UNIT_AND_PER: tuple[tuple[Unit, Per | None], ...] = (
    (Unit.CONCURRENT, None),
    *((unit, per) for unit in (Unit.TOKENS, Unit.REQUESTS) for per in _PERIODS_IN_ORDER),
)
"""A place here is a limit's code, which is kept with reservations and in the write-ahead log: only ever added to behind
the last, with its line in lua/lib/counters.lua."""
_PERIODS = {**PERIOD_US, Per.DAY: 0, Per.MONTH: 1}
_CODES = {each: code for code, each in enumerate(_UNIT_AND_PER)}


class CompiledLimits:
    """One plan's limits, in the order in which a decision looks at them."""

    __slots__ = ("_groups", "_templates", "limits", "packed", "text")

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.limits = in_order(limits)
        groups = {key: list(group) for key, group in groupby(self.limits, key=_group)}
        self._groups = tuple(groups)
        self._templates: dict[tuple[str, str], tuple[Template, ...]] = {}
        self.packed = _packed(groups)
        """What the scripts decide by."""
        self.text = _written(
            [[scope, *chain.from_iterable(map(_asked, group))] for (scope, _), group in groups.items()]
        )
        """What is kept with a reservation and a settle, for `read`."""

    def keys(self, tenant: str, user: str, model: str) -> tuple[str, ...]:
        """Return the key of each group, for one subject."""
        templates = self._templates.get((tenant, model))
        return keys.of_user(user, self._made(tenant, model) if templates is None else templates)

    def _made(self, tenant: str, model: str) -> tuple[Template, ...]:
        if len(self._templates) >= TEMPLATES_MAX:
            self._templates.clear()
        made = self._templates[tenant, model] = tuple(
            (keys.in_flight if in_flight else keys.counter)(scope, tenant, model) for scope, in_flight in self._groups
        )
        return made


@lru_cache(maxsize=KNOWN_MAX)
def compiled(limits: tuple[Limit, ...]) -> CompiledLimits:
    """Return a plan's limits compiled."""
    return CompiledLimits(limits)


def read(groups: Any) -> tuple[Limit, ...]:
    """
    Return the limits of a plan whose text was read as JSON.

    Raises: ValueError, for what is none.
    """
    if isinstance(groups, str):
        groups = _decompressed(groups)
    if not isinstance(groups, list):
        raise ValueError("not compiled limits")
    try:
        return tuple(
            Limit(Scope(scope), unit, amount, per)
            for scope, *pairs in groups
            for (unit, per), amount in zip(map(_UNIT_AND_PER.__getitem__, pairs[::2]), pairs[1::2], strict=True)
        )
    except (TypeError, IndexError) as error:
        raise ValueError("not compiled limits") from error


def code_of(limit: Limit) -> int:
    """Return the code of what a limit counts."""
    return _CODES[limit.unit, limit.per]


def _asked(limit: Limit) -> tuple[int, int]:
    return code_of(limit), limit.amount


def _written(groups: list[list[str | int]]) -> bytes:
    """Return groups as JSON; many of them compressed, in a string, since they travel with each request."""
    text = orjson.dumps(groups)
    return text if len(text) <= PLAIN_BYTES_MAX else b'"%b"' % b64encode(zlib.compress(text))


def _decompressed(text: str) -> Any:
    try:
        return orjson.loads(zlib.decompress(b64decode(text)))
    except zlib.error as error:
        raise ValueError("not compiled limits") from error


def _packed(groups: dict[tuple[Scope, bool], list[Limit]]) -> bytes:
    """Return groups as lua/lib/compiled_limits.lua tells: a format of Lua's `struct`, a zero, values."""
    counters = [group for (_, in_flight), group in groups.items() if not in_flight]
    places = [group[0].amount for (_, in_flight), group in groups.items() if in_flight]
    limits = [limit for counter in counters for limit in counter]
    layout = "<B" + "sBB" * len(counters) + "d" * len(places) + "Id" * len(limits)
    values, first = [pack("<B", len(counters))], 2 + 3 * len(counters) + len(places)
    for counter in counters:
        on_tokens = sum(limit.unit is Unit.TOKENS for limit in counter)
        values.append(b"%b\0%b" % (bytes(map(code_of, counter)), pack("<BB", on_tokens, first)))
        first += 2 * len(counter)
    values += [pack("<d", amount) for amount in places]
    values += [pack("<Id", _PERIODS[limit.per], limit.amount) for limit in limits]
    return b"".join([layout.encode(), b"\0", *values])


def _group(limit: Limit) -> tuple[Scope, bool]:
    return limit.scope, limit.unit is Unit.CONCURRENT
