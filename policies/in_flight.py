"""
The question: how many requests are in flight, and when is one of their places expected to be free?

The rule: a place is held from reserve to settle, release or expire, however long that takes; the expected end only
answers `retry_after`. A place whose reservation nobody could still end (`PENDING_US_MAX` past its expected end) is
none.
"""

from dataclasses import dataclass, field, replace
from typing import Self

from policies.holds import Hold
from policies.quota import Limit

PENDING_US_MAX = 30 * 86_400 * 1_000_000
"""How long a reservation may stay open: longer than any outage that a restart can still sweep."""

WAIT_US_MIN = 1_000_000


@dataclass(frozen=True, slots=True)
class InFlight:
    """The requests that hold a place, with their expected ends in microseconds."""

    at_us: int
    ends: dict[str, int] = field(default_factory=dict)

    @classmethod
    def unused(cls, now_us: int) -> Self:
        """Return no request in flight."""
        return cls(now_us)

    @property
    def used(self) -> int:
        """Return how many places are taken."""
        return len(self.ends)

    def at(self, limit: Limit, now_us: int) -> Self:
        """Return the places still held at `now_us`."""
        del limit
        held = {name: end for name, end in self.ends.items() if end >= now_us - PENDING_US_MAX}
        return replace(self, at_us=now_us, ends=held)

    def wait_us(self, limit: Limit, missing: int) -> int:
        """Return how long until `missing` places are expected to be free; never below a second."""
        del limit
        return max(WAIT_US_MIN, sorted(self.ends.values())[missing - 1] - self.at_us)

    def reset_us(self, limit: Limit) -> int:
        """Return how long until every place is expected to be free."""
        del limit
        return max(0, *self.ends.values(), self.at_us) - self.at_us

    def take(self, hold: Hold) -> Self:
        """Take a place."""
        return replace(self, ends={**self.ends, hold.request_id: hold.ends_at_us})

    def post(self, hold: Hold, cost: int) -> Self:
        """Give the place back."""
        del cost
        return replace(self, ends={name: end for name, end in self.ends.items() if name != hold.request_id})

    def grant(self, limit: Limit, more: int | None) -> Self:
        """Change nothing: a place comes back with the end of its request alone."""
        del limit, more
        return self

    def correct(self, hold: Hold, difference: int) -> Self:
        """Change nothing: a place that was given back is not taken again."""
        del hold, difference
        return self
