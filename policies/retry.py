"""
The question: may a request that failed on one replica be sent to another?

The rule: over the last `WINDOW_S` seconds, retries <= `FREE_PER_S` * WINDOW_S + `SHARE_PER_MILLE` of the requests. A
single replica that dies costs its clients nothing; a whole fleet that dies is not asked for twice the work.

Source: Finagle's RetryBudget (20 % and 10 a second over 10 s), which Linkerd has too.
"""

WINDOW_S = 10
FREE_PER_S = 10
SHARE_PER_MILLE = 200


class RetryBudget:
    """
    The requests and retries to one model's replicas.

    Units: seconds of a clock that never runs backwards, as integers. Bounds: holds WINDOW_S pairs of counts.
    """

    def __init__(self) -> None:
        self._requests = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self._at_s = 0

    def asked(self, now_s: int) -> None:
        """Count a request's first attempt."""
        self._forget(now_s)
        self._requests[now_s % WINDOW_S] += 1

    def retries(self, now_s: int) -> bool:
        """Take one retry if the budget holds it, and tell whether it did."""
        self._forget(now_s)
        if sum(self._retries) >= FREE_PER_S * WINDOW_S + SHARE_PER_MILLE * sum(self._requests) // 1_000:
            return False
        self._retries[now_s % WINDOW_S] += 1
        return True

    def _forget(self, now_s: int) -> None:
        """Empty the seconds that have begun since the last look: what they count is a whole window old."""
        if now_s <= self._at_s:
            return
        for second in range(max(self._at_s + 1, now_s - WINDOW_S + 1), now_s + 1):
            self._requests[second % WINDOW_S] = self._retries[second % WINDOW_S] = 0
        self._at_s = now_s
