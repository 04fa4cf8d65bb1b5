"""
Where the request goes, and when: a place on a replica, or the news that there is none.

There is no queue yet: without room the request is turned away at once, with the time the first place is expected to
be free.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from engine.faults import ConnectFailed, UpstreamFault
from engine.fleet.pool import Pool
from engine.fleet.replica import Lease, Replica
from engine.fleet.trouble import of_fault
from policies.estimate import HoldTimes
from policies.rejection import Rejected
from policies.retry import RetryBudget
from policies.routing import Job, choose
from proxy.errors import ApiError, Code, rejection
from proxy.exchange_state import ExchangeState
from proxy.observe.metrics import Metrics

_log = logging.getLogger(__name__)

LEAST_TOKENS = "least_tokens"
RETRY = "retry"
_NOBODY = Pool("")
"""Who serves a model that the config has no longer; its last requests may still ask."""


class Turns:
    """The stage that picks a replica and holds a place on it."""

    def __init__(self, pools: Mapping[str, Pool], holds: HoldTimes, metrics: Metrics) -> None:
        self._pools = pools
        self._holds = holds
        self._metrics = metrics
        self._budgets: defaultdict[str, RetryBudget] = defaultdict(RetryBudget)

    def take(self, job: Job) -> "Turn":
        """
        Return the block in which the job has its turn.

        Entering it raises `ApiError`, when there is no replica for it, or no more retries.
        """
        return Turn(self, job)

    def learn(self, state: ExchangeState) -> None:
        """Take in how long the turns of an exchange took, once it has ended."""
        for attempt in state.attempts:
            self._holds.ended(attempt.admitted.call.model.name, int(1_000_000 * (attempt.ended - attempt.turned)))

    def lease(self, job: Job) -> Lease:
        """Choose a replica; raise `ApiError`."""
        model = job.model
        self._count(model, retry=bool(job.tried))
        pool, now_us = self._pools.get(model, _NOBODY), time.time_ns() // 1_000
        choice = choose(pool.snapshots(), job, now_us)
        if isinstance(choice, Rejected):
            raise rejection(choice)
        self._metrics.routed(model, choice, RETRY if job.tried else LEAST_TOKENS)
        return pool[choice].lease(job.sequences, job.tokens, now_us + self._holds.expected_us(model))

    def unreachable(self, model: str, replica: Replica, fault: ConnectFailed) -> None:
        """Give a replica that takes no connection nothing more, until the next health check decides."""
        was_healthy = replica.healthy
        replica.lost(of_fault(fault))
        if was_healthy and self._pools.get(model, _NOBODY).has(replica):
            self._metrics.replica_up(model, replica.name, up=False)
            _log.warning("replica_down", extra={"replica": replica.name, "url": replica.url, "reason": replica.cause})

    def _count(self, model: str, *, retry: bool) -> None:
        budget, now_s = self._budgets[model], int(time.monotonic())
        if not retry:
            budget.asked(now_s)
        elif not budget.retries(now_s):
            raise ApiError(Code.UPSTREAM_ERROR, "Too many requests of this model are being tried again.")


class Turn:
    """The block in which one attempt has a place on a replica."""

    __slots__ = ("_job", "_stage", "lease")

    lease: Lease
    """Its place, within the block."""

    def __init__(self, stage: Turns, job: Job) -> None:
        self._stage = stage
        self._job = job

    async def __aenter__(self) -> Self:
        """Take the place."""
        self.lease = self._stage.lease(self._job).__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        self.lease.__exit__(kind, error, traceback)

    def failed(self, fault: UpstreamFault) -> None:
        """Note that the replica failed the attempt."""
        if isinstance(fault, ConnectFailed):
            self._stage.unreachable(self._job.model, self.lease.replica, fault)
