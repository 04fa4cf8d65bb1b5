"""
One outage of Redis, one story: a line when it begins, with address and cause, one when it ends, a count between.

Who asks Redis is told by an exception that somebody has told it already (`proxy.errors.LedgerUnavailable.told`), and
says no more: sixty seconds without Redis fail each call of each request.
"""

import logging
from collections.abc import Callable
from time import monotonic

from proxy.redis.refusal import RedisRefusal

CALM_S = 1.5
"""So long after the last failed call one that succeeds ends the outage."""

_log = logging.getLogger(__name__)


class Outage:
    """
    What fails at `address`, and whether anything does. `failed` is told the reason of each failed call.

    Bounds: two lines for each outage, however many calls fail in it.
    """

    def __init__(self, address: str, failed: Callable[[str], None] = lambda reason: None) -> None:
        self._address = address
        self._failed = failed
        self._began: float | None = None
        self._last = 0.0
        self._calls = 0

    def met(self, refusal: RedisRefusal) -> None:
        """Take in a failed call."""
        self._failed(refusal.reason)
        self._last = monotonic()
        self._calls += 1
        if self._began is None:
            self._began, self._calls = self._last, 1
            _log.error("redis_away", extra={"address": self._address, "reason": refusal.said})

    def answered(self) -> None:
        """Take in that all is well, as far as a heartbeat tells."""
        now = monotonic()
        if self._began is None or now - self._last < CALM_S:
            return
        seconds, self._began = round(now - self._began, 1), None
        _log.warning("redis_back", extra={"address": self._address, "seconds": seconds, "calls": self._calls})
