"""
The one frozen record of an exchange: it feeds the log line, the metrics and the ledger.

A FINAL record is appended to the ledger stream by the settle script, so that charging and billing are one step. The
fields are flat, because the archive stores them as columns.

Wherever a record is kept (reservation, write-ahead log, ledger) it is the same text: one JSON array, its version first
(`proxy.versions`), then the fields in their order, what is `COUNTED` before all others. Fields behind the last are
passed over. Version 2 told charges in millionths, without what it did not know.

Decision: places instead of names. Because a record is written three times for every request, to Redis and to the disk,
and names are two thirds of the text; instead of a binary form, which nobody could read without us.

A CORRECTION is a record of the same fields, written when the gateway that served an exchange turns out to live after a
sweeper billed it. What is `COUNTED` in it is the signed difference to the FINAL, everything else is the truth (source,
outcome, times, price): the sum over an exchange's rows is what it used and costs, and only a FINAL counts as a request.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, get_type_hints

import orjson

from proxy import versions


class Source(StrEnum):
    """Where the billed usage comes from."""

    ENGINE = "engine"
    """The engine's own last usage of an exchange that ran to its end; waste, where that could not be passed on."""
    CUT = "cut"
    """The last usage received before the exchange was cut."""
    UNOBSERVED = "unobserved"
    """Nothing: no usage was ever known, and the quota keeps what may have been used."""
    RECOVERED = "recovered"
    """The last progress of a gateway that died."""


OK = "ok"
CLIENT_CLOSED = "client_closed"
SHUTDOWN = "shutdown"
GATEWAY_LOST = "gateway_lost"
"""The outcomes that are no error; every other outcome is a `code` of the error table."""


class ExchangeRecord(NamedTuple):
    """
    One request and its response, as it is billed.

    Units: `*_at` in microseconds since the epoch, `*_ms` in milliseconds, `charge_picos` in 10^-12 of `currency`.
    """

    prompt_tokens: int
    cached_tokens: int
    """The part of `prompt_tokens` served from the prefix cache."""
    completion_tokens: int
    charge_picos: int
    wasted_tokens: int
    """Tokens that nobody pays for: what the gateway saw of attempts that came to nothing; where a client hung up before
    anyone knew what its request used, all that the quota keeps for it."""
    reasoning_tokens: int
    """The part of `completion_tokens` that the engine says were thoughts; told at an answer's end alone."""
    request_id: str
    """The gateway's ULID; also the `x-request-id` the client was given."""
    incarnation: str
    """The gateway process start that served it (ULID)."""
    tenant: str
    user: str
    plan: str
    lane: str
    model: str
    """The configured name, never the alias the client used."""
    replica: str
    """Empty when none was reached."""
    group: str
    """The replica's group (for canaries); empty when it has none."""
    endpoint: str
    """`chat`, `completions` or `embeddings`."""
    n: int
    """Choices asked for, over all prompts."""
    started_at: int
    finished_at: int
    source: Source
    outcome: str
    """`ok`, `client_closed`, `shutdown`, `gateway_lost` or a `code` of the error table."""
    stream: bool
    queue_ms: int
    ttft_ms: int | None
    """None when no token was received."""
    price_version: str
    """The price stamped at reserve; empty when the model has none."""
    currency: str
    attempts: int
    """Replicas tried."""
    client_request_id: str
    """The client's own name for it (`x-client-request-id`); empty where it gave none."""


COUNTED = (
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "charge_picos",
    "wasted_tokens",
    "reasoning_tokens",
)
"""What a CORRECTION tells as a difference; the first fields of a record."""


def correction(truth: ExchangeRecord, billed: ExchangeRecord) -> ExchangeRecord:
    """Return the CORRECTION that, added to `billed`, gives `truth`."""
    return differing(truth, [getattr(truth, name) - getattr(billed, name) for name in COUNTED])


def differing(truth: ExchangeRecord, differences: Sequence[int]) -> ExchangeRecord:
    """Return the CORRECTION that tells `truth`, and these differences in the order of `COUNTED`."""
    return ExchangeRecord._make((*differences, *truth[len(COUNTED) :]))


def written(record: ExchangeRecord) -> bytes:
    """Return a record as text, without a line end."""
    return orjson.dumps((versions.WRITTEN, *record))


def read(text: str | bytes) -> ExchangeRecord:
    """
    Return the record that `written` wrote.

    Raises: ValueError, for what is none; proxy.versions.NewerVersion, which is one.
    """
    return record_of(orjson.loads(text))


def record_of(values: Any) -> ExchangeRecord:
    """Return the record of an array that was read; raises as `read`."""
    if not isinstance(values, list) or not values:
        raise ValueError("not a record")
    versions.check(values[0])
    if values[0] == versions.MICROS:
        values = _from_micros(values)
    if len(values) <= len(ExchangeRecord._fields):
        raise ValueError("not a record: some of its fields are missing")
    record = ExchangeRecord(*values[1 : len(ExchangeRecord._fields) + 1])
    for name, value in zip(ExchangeRecord._fields, record, strict=True):
        if not isinstance(value, _KINDS[name]):
            raise ValueError(f"not a record: its {name} is a {type(value).__name__}")
    return record._replace(source=Source(record.source))


def _from_micros(values: list[Any]) -> list[Any]:
    """Return what version 2 wrote in the places of now: its charge was rounded to millionths."""
    if len(values) < _MICROS_FIELDS or type(values[4]) is not int:
        raise ValueError("not a record: some of its fields are missing")
    return [*values[:4], values[4] * 1_000_000, values[5], 0, *values[6:_MICROS_FIELDS], ""]


_MICROS_FIELDS = 27
"""Values of a record of version 2, its version among them."""
_KINDS = get_type_hints(ExchangeRecord) | {"source": str}
