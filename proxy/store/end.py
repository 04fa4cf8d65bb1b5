"""
How a reservation may end, and how a settle is written down: one JSON object, its fields by their names.

A field that this version does not know is passed over, so that what an older or newer gateway left can be read.
"""

from dataclasses import dataclass, fields
from typing import Any

import orjson

from policies.quota import Limit, Per, Scope, Unit
from proxy.billing.record import ExchangeRecord, Source

_NAMES = frozenset(field.name for field in fields(ExchangeRecord))


@dataclass(frozen=True, slots=True)
class Settle:
    """The end of an exchange that a replica may have worked on; `record` is its FINAL."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]
    unobserved: bool


@dataclass(frozen=True, slots=True)
class Release:
    """The end of an exchange that no replica saw."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]


End = Settle | Release


def written(end: Settle) -> bytes:
    """Return a settle as JSON, without a line end."""
    return orjson.dumps(end)


def read(text: bytes) -> Settle:
    """
    Return the settle that `written` wrote.

    Raises: ValueError, for what is none.
    """
    try:
        known: dict[str, Any] = orjson.loads(text)
        record = {name: value for name, value in known["record"].items() if name in _NAMES}
        record["source"] = Source(record["source"])
        return Settle(ExchangeRecord(**record), tuple(map(_limit, known["limits"])), bool(known["unobserved"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a settle") from error


def _limit(line: dict[str, Any]) -> Limit:
    per = line["per"]
    return Limit(Scope(line["scope"]), Unit(line["unit"]), line["amount"], Per(per) if per else None)
