"""
Where the request goes, and when: a place on a replica, or the news that there is none.

There is no queue yet: without room the request is turned away at once, with the time the first place is expected to
be free.
"""

import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType

from engine.faults import ConnectFailed
from engine.fleet.pool import Pool
from engine.fleet.replica import Lease, Replica
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
        for model, pool in pools.items():
            for replica in pool:
                metrics.inflight(model, replica.name, partial(len, replica.leases))

    def __call__(self, call: Call, tally: Tally, tried: set[str]) -> "Turn":
        """
        Hold a place for the block on a replica that is not in `tried`.

        Raises: ApiError, when there is none, or no more retries.
        """
        request, model = call.request, call.model.name
        pool, choices = self._pools[model], request.choices
        self._count(model, retry=bool(tried))
        now_us = time.time_ns() // 1_000
        choice = choose(pool.snapshots(), choices, now_us, tried)
        if isinstance(choice, Rejected):
            raise rejection(choice)
        replica = pool[choice]
        self._metrics.routed(model, choice, RETRY if tried else LEAST_TOKENS)
        tally.replica, tally.group = replica.name, replica.group
        tally.attempts += 1
        turned = time.perf_counter()
        tally.watch.turned = tally.watch.turned or turned
        tokens = choices * tally.max_completion + request.token_ids + request.text_bytes
        return Turn(self, model, replica.lease(choices, tokens, now_us + self._holds.expected_us(model)), turned)

    def ended(self, model: str, replica: Replica, held_s: float, error: BaseException | None) -> None:
        """Learn from how a turn ended."""
        self._holds.ended(model, int(1_000_000 * held_s))
        if isinstance(error, ConnectFailed):
            # Nothing listens there: the next health check decides whether it may have work again.
            replica.healthy = False
            self._metrics.replica_up(model, replica.name, up=False)

    def _count(self, model: str, *, retry: bool) -> None:
        budget, now_s = self._budgets[model], int(time.monotonic())
        if not retry:
            budget.asked(now_s)
        elif not budget.retries(now_s):
            raise ApiError(Code.UPSTREAM_ERROR, "Too many requests of this model are being tried again.")


class Turn:
    """The block in which one attempt has a place on a replica. Units: `began` in seconds of a monotonic clock."""

    __slots__ = ("_began", "_lease", "_model", "_stage")

    def __init__(self, stage: TakeTurn, model: str, lease: Lease, began: float) -> None:
        self._stage = stage
        self._model = model
        self._lease = lease
        self._began = began

    def __enter__(self) -> Replica:
        """Take the place."""
        return self._lease.__enter__().replica

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        self._lease.__exit__(kind, error, traceback)
        self._stage.ended(self._model, self._lease.replica, time.perf_counter() - self._began, error)
