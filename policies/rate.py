"""
The question: how much of a pace is used now, and when will so much be there again?

The rule: a token bucket, kept as what is *used* of it. It refills by `amount` a period, never below 0; a settle above
its reservation may take it over `amount`, which is debt that later refills pay off first. What is used, not what is
left, is kept, so that a changed amount keeps it.

Integers only: the part of a token that has refilled but is not whole yet is `carry`, in amount * microseconds.

Source: the token bucket, as GCRA counts it (ITU-T I.371 annex A); its Lua twin is `proxy/store/lua/lib/counters.lua`.
"""

from dataclasses import dataclass, replace
from typing import Self

from policies.holds import Hold
from policies.quota import MAX_AMOUNT, PERIOD_US, Limit


@dataclass(frozen=True, slots=True)
class Rate:
    """
    What is used of one rate at `at_us`.

    Bounds: 0 <= used; 0 <= carry < the period; used == 0 implies carry == 0.
    """

    used: int
    carry: int
    at_us: int

    @classmethod
    def unused(cls, now_us: int) -> Self:
        """Return a full bucket."""
        return cls(0, 0, now_us)

    def at(self, limit: Limit, now_us: int) -> Self:
        """Return this rate with what has refilled since; a clock that ran backwards refills nothing."""
        now_us = max(now_us, self.at_us)
        refilled, carry = divmod((now_us - self.at_us) * limit.amount + self.carry, PERIOD_US[limit.per])
        if refilled >= self.used:
            return replace(self, used=0, carry=0, at_us=now_us)
        return replace(self, used=self.used - refilled, carry=carry, at_us=now_us)

    def wait_us(self, limit: Limit, missing: int) -> int:
        """
        Return the first microsecond, from `at_us` on, at which `missing` more tokens have refilled.

        Bounds: at most MAX_AMOUNT, 285 years: a debt that long is never.
        """
        return min(-((self.carry - missing * PERIOD_US[limit.per]) // limit.amount), MAX_AMOUNT)

    def reset_us(self, limit: Limit) -> int:
        """Return how long until nothing of it is used."""
        return self.wait_us(limit, self.used) if self.used else 0

    def take(self, hold: Hold) -> Self:
        """Reserve what `hold` says."""
        return replace(self, used=self.used + hold.cost)

    def post(self, hold: Hold, cost: int) -> Self:
        """Turn what was reserved into what was used."""
        return self._moved(cost - hold.cost)

    def correct(self, hold: Hold, difference: int) -> Self:
        """Move what was posted before by `difference`."""
        del hold
        return self._moved(difference)

    def grant(self, limit: Limit, more: int | None) -> Self:
        """Give back so much of what is used, for None all of it: a bucket is never more than full."""
        del limit
        return self._moved(-self.used if more is None else -more)

    def _moved(self, difference: int) -> Self:
        used = min(max(0, self.used + difference), MAX_AMOUNT)
        return replace(self, used=used, carry=self.carry if used else 0)
