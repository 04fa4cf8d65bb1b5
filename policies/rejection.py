"""
Why a request has no turn, as a value.

A rejection is an expected answer, never an exception. `proxy/errors.py` is the one table that maps a `Reason` to HTTP.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a request has no turn. The value is the `code` that the client reads."""

    QUEUE_FULL = "queue_full"
    """Healthy replicas, but no room."""
    NO_REPLICA = "no_replica"


@dataclass(frozen=True, slots=True)
class Rejected:
    """One refusal: its reason and when trying again may help."""

    reason: Reason
    retry_after_us: int | None
    """Microseconds until the same request could be admitted if nobody else took the room; None is never."""
    message: str
    """One sentence for the client; names the limit, never another tenant."""
