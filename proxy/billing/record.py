"""
The one frozen record of an exchange: it feeds the log line, the metrics and the ledger.

A FINAL record is appended to the ledger stream by the settle script, so that charging and billing are one step. The
fields are flat, because the archive stores them as columns; a change of them raises `VERSION`.

A CORRECTION is a record of the same fields, written when the gateway that served an exchange turns out to live after a
sweeper billed it. What is `COUNTED` in it is the signed difference to the FINAL, everything else is the truth (source,
outcome, times, price): the sum over an exchange's rows is what it used and costs, and only a FINAL counts as a request.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

VERSION = 1


class Source(StrEnum):
    """Where the billed usage comes from."""

    ENGINE = "engine"
    """The engine's own last usage of an exchange that ran to its end."""
    CUT = "cut"
    """The last usage received before the exchange was cut."""
    RECOVERED = "recovered"
    """The last progress of a gateway that died."""


OK = "ok"
CLIENT_CLOSED = "client_closed"
SHUTDOWN = "shutdown"
GATEWAY_LOST = "gateway_lost"
"""The outcomes that are no error; every other outcome is a `code` of the error table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRecord:
    """
    One request and its response, as it is billed.

    Units: `*_at` in microseconds since the epoch, `*_ms` in milliseconds, `charge_micros` in millionths of `currency`.
    """

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
    prompt_tokens: int
    cached_tokens: int
    """The part of `prompt_tokens` served from the prefix cache."""
    completion_tokens: int
    source: Source
    outcome: str
    """`ok`, `client_closed`, `shutdown`, `gateway_lost` or a `code` of the error table."""
    stream: bool
    queue_ms: int
    ttft_ms: int | None
    """None when no token was received."""
    price_version: str
    """The price stamped at reserve; empty when the model has none."""
    charge_micros: int
    currency: str
    attempts: int
    """Replicas tried."""
    wasted_tokens: int
    """Tokens that nobody pays for: what the gateway saw of attempts that came to nothing; where a client hung up before
    anyone knew what its request used, all that the quota keeps for it."""
    version: int = VERSION


COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "charge_micros", "wasted_tokens")
"""What a CORRECTION tells as a difference."""


def correction(truth: ExchangeRecord, billed: ExchangeRecord) -> ExchangeRecord:
    """Return the CORRECTION that, added to `billed`, gives `truth`."""
    return replace(truth, **{name: getattr(truth, name) - getattr(billed, name) for name in COUNTED})
