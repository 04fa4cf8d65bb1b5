"""
Tells of requests whose token is nobody's: each is counted, and so many a second have a line in the log.

Whoever has no token may send requests as fast as the network lets it, and must not fill a disk by it.
"""

import logging
import time

from proxy.errors import ApiError
from proxy.observe.metrics import Metrics

LINES_PER_S = 10

_log = logging.getLogger(__name__)


class TokenRefusals:
    """Counts them for a gateway, or a worker of one."""

    def __init__(self, metrics: Metrics, lines_per_s: int = LINES_PER_S) -> None:
        self._metrics = metrics
        self._lines_per_s = lines_per_s
        self._second = 0
        self._lines = 0
        self._unlogged = 0

    def __call__(self, error: ApiError, request_id: str | None = None) -> None:
        """Count a refusal, and log it unless so many were in this second."""
        self._metrics.limited("", error.reason)
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= self._lines_per_s:
            self._unlogged += 1
            return
        self._lines += 1
        unlogged, self._unlogged = self._unlogged or None, 0
        _log.info("token_refused", extra={"request_id": request_id, "reason": error.reason, "unlogged": unlogged})
