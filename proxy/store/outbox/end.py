"""
How a reservation may end, and how a settle is written down: one JSON array of its record, its line-up, and whether the
quota keeps the whole reservation.

It is of the version of its record and of its line in the log (`proxy.versions`). What stands behind the three is passed
over.
"""

from typing import NamedTuple

import orjson

from policies.quota import Limit
from proxy.billing.record import ExchangeRecord, record_of
from proxy.billing.record import written as written_record
from proxy.store import compiled_limits


class Settle(NamedTuple):
    """The end of an exchange that a replica may have worked on; `record` is its FINAL."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]
    unobserved: bool


class Release(NamedTuple):
    """The end of an exchange that no replica saw."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]


End = Settle | Release


def written(end: Settle) -> bytes:
    """Return a settle as JSON, without a line end."""
    limits = compiled_limits.compiled(end.limits).text
    return b"[%b,%b,%b]" % (written_record(end.record), limits, b"true" if end.unobserved else b"false")


def read(text: bytes) -> Settle:
    """
    Return the settle that `written` wrote.

    Raises: ValueError, for what is none.
    """
    try:
        record, limits, unobserved, *_ = orjson.loads(text)
    except TypeError as error:
        raise ValueError("not a settle") from error
    return Settle(record_of(record), compiled_limits.read(limits), bool(unobserved))
