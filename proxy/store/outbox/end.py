"""
How a reservation may end, and how a settle is written down: one JSON array of its record, its compiled limits, what the
quota keeps beyond the bill (tokens; false is nothing, true is all that was reserved), and 1 where the client's own key
may be used again.

It is of the version of its record and of its line in the log (`proxy.versions`). What stands behind them is passed
over; a gateway that knows only of true and false takes any number of tokens for all that was reserved.
"""

from typing import NamedTuple

import orjson

from policies.quota import WHOLE, Limit
from proxy.billing.record import ExchangeRecord, record_of
from proxy.billing.record import written as written_record
from proxy.store import compiled_limits


class Settle(NamedTuple):
    """The end of an exchange that a replica may have worked on; `record` is its FINAL."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]
    held: int
    """Tokens that may have been used beyond the record's: the quota keeps them."""
    frees: bool = False
    """Whether the client's own key for its request may be used again."""


class Release(NamedTuple):
    """The end of an exchange that no replica saw."""

    record: ExchangeRecord
    limits: tuple[Limit, ...]


End = Settle | Release


def written(end: Settle) -> bytes:
    """Return a settle as JSON, without a line end."""
    limits = compiled_limits.compiled(end.limits).text
    held = b"%d" % end.held if end.held else b"false"
    return b"[%b,%b,%b,%d]" % (written_record(end.record), limits, held, end.frees)


def read(text: bytes) -> Settle:
    """
    Return the settle that `written` wrote.

    Raises: ValueError, for what is none.
    """
    try:
        record, limits, held, *more = orjson.loads(text)
    except TypeError as error:
        raise ValueError("not a settle") from error
    if not isinstance(held, int):
        raise ValueError("not a settle: what it holds is no number")
    return Settle(
        record_of(record), compiled_limits.read(limits), WHOLE if held is True else int(held), more[:1] == [1]
    )
