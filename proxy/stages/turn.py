"""
Where the request goes, and when: a place on a replica, or the news that there is none.

There is no queue yet: without room the request is turned away at once, with the time the first place is expected to
be free.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from engine.faults import ConnectFailed
from engine.pool import Pool
from engine.replica import Replica
from policies.estimate import HOLD_US_START, smoothed_hold_us
from policies.rejection import Rejected
from policies.retry import RetryBudget
from policies.routing import choose
from proxy.call import Call
from proxy.errors import ApiError, Code, rejection
from proxy.observe.metrics import Metrics
from proxy.tally import Tally

LEAST_TOKENS = "least_tokens"
RETRY = "retry"


class HoldTimes:
    """How long requests to each model are in flight, as a moving average in microseconds."""

    def __init__(self) -> None:
        self._us: dict[str, int] = {}

    def expected_us(self, model: str) -> int:
        """Return how long the next request is expected to take."""
        return self._us.get(model, HOLD_US_START)

    def ended(self, model: str, us: int) -> None:
        """Take in how long a request took."""
        self._us[model] = smoothed_hold_us(self.expected_us(model), us)


class TakeTurn:
    """The stage that picks a replica and holds a place on it."""

    def __init__(self, pools: Mapping[str, Pool], holds: HoldTimes, metrics: Metrics) -> None:
        self._pools = pools
        self._holds = holds
        self._metrics = metrics
        self._budgets = {model: RetryBudget() for model in pools}

    @contextmanager
    def __call__(self, call: Call, tally: Tally, tried: set[str]) -> Iterator[Replica]:
        """Hold a place on a replica that is not in `tried`; raise `ApiError` when there is none, or no more retries."""
        model, pool = call.model.name, self._pools[call.model.name]
        self._count(model, retry=bool(tried))
        now_us = time.time_ns() // 1_000
        choice = choose(pool.snapshots(), call.inquiry.choices, now_us, tried)
        if isinstance(choice, Rejected):
            raise rejection(choice)
        replica = pool[choice]
        self._metrics.routed(model, choice, RETRY if tried else LEAST_TOKENS)
        tally.replica, tally.group = replica.name, replica.group
        tally.attempts += 1
        tally.watch.turned = tally.watch.turned or time.perf_counter()
        tokens = call.inquiry.choices * tally.max_completion + call.inquiry.token_ids + call.inquiry.text_bytes
        started = time.monotonic_ns()
        expected_end_us = now_us + self._holds.expected_us(model)
        with (
            replica.lease(call.inquiry.choices, tokens, expected_end_us),
            self._metrics.inflight(model, replica.name),
        ):
            try:
                yield replica
            except ConnectFailed:
                # Nothing listens there: the next health check decides whether it may have work again.
                replica.healthy = False
                self._metrics.replica_up(model, replica.name, up=False)
                raise
            finally:
                self._holds.ended(model, (time.monotonic_ns() - started) // 1_000)

    def _count(self, model: str, *, retry: bool) -> None:
        budget, now_s = self._budgets[model], int(time.monotonic())
        if not retry:
            budget.asked(now_s)
        elif not budget.retries(now_s):
            raise ApiError(Code.UPSTREAM_ERROR, "Too many requests of this model are being tried again.")
