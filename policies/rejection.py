"""
Why a request was turned away, as a value.

A rejection is an expected answer, never an exception. `proxy/errors.py` is the one table that maps a `Reason` to HTTP.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """What refused a request. The value is the `code` that the client reads."""

    MODEL_NOT_ALLOWED = "model_not_allowed"
    TOKENS_EXCEED_PLAN = "tokens_exceed_plan"
    """More tokens than the limit could ever hold: waiting does not help."""
    RATE = "rate_limit_exceeded"
    """A pace was reached; it refills."""
    QUOTA = "insufficient_quota"
    """A calendar window is used up; it opens again at its end."""
    CONCURRENCY = "concurrency_limit_exceeded"
    QUEUE_FULL = "queue_full"
    NO_REPLICA = "no_replica"


@dataclass(frozen=True, slots=True)
class Rejected:
    """One refusal: its reason and when trying again may help."""

    reason: Reason
    retry_after_us: int | None
    """Microseconds until the same request could be admitted if nobody else took the room; None is never."""
    message: str
    """One sentence for the client; names the limit, never another tenant."""
