"""
The question: how much of a calendar day or month (UTC, half-open) is settled, how much is pending?

The rule: available + pending + settled = amount + granted. A reservation belongs to the window it was taken from; once
that window is closed, posting or returning it moves nothing, and what an operator granted in it is gone. A clock that
runs backwards never reopens a window.

Source: two-phase transfers (pending, post, void), TigerBeetle docs/coding/two-phase-transfers.md.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from policies.holds import Hold
from policies.quota import MAX_AMOUNT, Limit, Per

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def bounds_us(per: Per, now_us: int) -> tuple[int, int]:
    """Return the first microsecond of the day or month (UTC) around `now_us`, and the first one after it."""
    now = _EPOCH + now_us * _MICROSECOND
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if per is Per.DAY:
        end = start + timedelta(days=1)
    else:
        start = start.replace(day=1)
        end = (start + timedelta(days=31)).replace(day=1)
    return (start - _EPOCH) // _MICROSECOND, (end - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Window:
    """What is settled and pending in the window that ends at `end_us`, seen at `at_us`."""

    end_us: int
    settled: int
    pending: int
    at_us: int
    granted: int = 0
    """What an operator gave in this window beyond its amount."""

    @classmethod
    def unused(cls, now_us: int) -> Self:
        """Return a window that any later one follows."""
        return cls(0, 0, 0, now_us)

    @property
    def used(self) -> int:
        """Return what is not available; below 0 where more was granted than is used."""
        return self.settled + self.pending - self.granted

    def at(self, limit: Limit, now_us: int) -> Self:
        """Return this window, or the one that has opened since."""
        if now_us < self.end_us:
            return replace(self, at_us=now_us)
        end_us = bounds_us(_calendar(limit), now_us)[1]
        return replace(self, end_us=end_us, settled=0, pending=0, granted=0, at_us=now_us)

    def wait_us(self, limit: Limit, missing: int) -> int:
        """Return how long until the next window opens, which holds any `missing` that fits the limit at all."""
        del limit, missing
        return self.end_us - self.at_us

    def reset_us(self, limit: Limit) -> int:
        """Return how long until nothing of it is used."""
        return self.wait_us(limit, self.used) if self.used else 0

    def take(self, hold: Hold) -> Self:
        """Reserve what `hold` says."""
        return replace(self, pending=self.pending + hold.cost)

    def post(self, hold: Hold, cost: int) -> Self:
        """Turn what was reserved into what was used, in the window it was reserved in."""
        if hold.window_end_us is None:
            return replace(self, settled=self.settled + cost)
        if hold.window_end_us != self.end_us:
            return self
        return replace(self, pending=self.pending - hold.cost, settled=self.settled + cost)

    def grant(self, limit: Limit, more: int | None) -> Self:
        """Give so much more in this window; for None, all that is used of it."""
        asked = max(0, self.used) if more is None else more
        # Below 0 where a plan with a smaller amount was granted all that it may be.
        room = MAX_AMOUNT - (limit.amount - self.used)
        return replace(self, granted=self.granted + min(asked, room))

    def correct(self, hold: Hold, difference: int) -> Self:
        """Move what was posted before by `difference`, in the window it was reserved in."""
        if hold.window_end_us != self.end_us:
            return self
        return replace(self, settled=self.settled + difference)


def _calendar(limit: Limit) -> Per:
    return Per.DAY if limit.per is Per.DAY else Per.MONTH
