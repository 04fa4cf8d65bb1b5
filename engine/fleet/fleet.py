"""
The replicas of every model as they come and go: who is given work, whose health is watched, and who has left.

Rules:
- All come and go at once (`arrange`). Who is new is looked at before (`look`), so that it takes over without a gap.
- One that is wanted no longer gets no more work; what runs on it goes on to its end, and then it has left.
- One that stays where it is keeps what runs on it and what is known of it, whatever else of it is changed; so does one
  that is wanted again before it has left.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from engine.fleet.health import HealthWatch, check
from engine.fleet.pool import Pool
from engine.fleet.replica import Replica
from engine.wire.client import Upstream
from engine.wire.credentials import NONE, Credentials

_LEFT_POLL_S = 0.1
"""Between two looks at whether anything still runs on a replica that leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is wanted of one replica; the fields are those of `Replica`."""

    model: str
    name: str
    url: str
    sequences: int
    group: str = ""
    generates: bool = True
    abort_path: str = ""
    serves: str = ""
    credentials: Credentials = NONE

    def made(self) -> Replica:
        """Return a replica of which nothing is known yet."""
        made = Replica(self.name, self.url, self.sequences, model=self.model)
        self.apply_to(made)
        return made

    def is_at(self, replica: Replica) -> bool:
        """Tell whether a replica is where this one is wanted; else it has to be replaced by another."""
        return (replica.model, replica.name, replica.url) == (self.model, self.name, self.url)

    def apply_to(self, replica: Replica) -> None:
        """Give a replica all that may be changed of it while it works."""
        replica.sequences, replica.group = self.sequences, self.group
        replica.generates, replica.abort_path = self.generates, self.abort_path
        if replica.serves != self.serves or not replica.credentials.are(self.credentials):
            replica.serves, replica.credentials = self.serves, self.credentials
            replica.named_looks = 0


Arrangement = Sequence[tuple[Placement, Replica]]
"""Who is wanted, each with the replica that will be it."""


class Witness(Protocol):
    """Who is told what becomes of replicas."""

    def joined(self, replica: Replica, inflight: Callable[[], int]) -> None:
        """Take note of one that may be given work from now on; `inflight` counts the requests under its name."""

    def changed(self, replica: Replica) -> None:
        """Take note that one's health has changed."""

    def stalled(self, replica: Replica) -> None:
        """Take note that one's engine has stopped to generate, or goes on."""

    def left(self, replica: Replica) -> None:
        """Take note that nothing runs any more on one that is wanted no longer, and that no other has its name."""


class Fleet:
    """All replicas: `async with Fleet(upstream, witness) as fleet`, empty until the first `arrange`."""

    def __init__(self, upstream: Upstream, witness: Witness) -> None:
        self._upstream = upstream
        self._witness = witness
        self._pools: dict[str, Pool] = {}
        self._watches: dict[Replica, HealthWatch] = {}
        self._leaving: dict[Replica, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Return every model's pool by its name, as they are now and will be."""
        return self._pools

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look at nobody any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(watch.end() for watch in self._watches.values()))

    async def look(self, wanted: Iterable[Placement]) -> Arrangement:
        """
        Return who would be given work, with a first look at those that are new.

        Bounds: one that does not answer within the deadline of a look is down until it does.
        """
        arrangement = [(each, self._present(each) or each.made()) for each in wanted]
        new = [replica for _, replica in arrangement if replica not in self._watches]
        looks = await asyncio.gather(*(check(replica, self._upstream) for replica in new))
        for replica, healthy in zip(new, looks, strict=True):
            replica.healthy = healthy
        return arrangement

    def arrange(self, arrangement: Arrangement) -> None:
        """Let these and no others be given work from now on."""
        wanted: dict[str, list[Replica]] = {}
        for placement, replica in arrangement:
            placement.apply_to(replica)
            wanted.setdefault(placement.model, []).append(replica)
        present = [replica for pool in self._pools.values() for replica in pool]
        for model in [*self._pools, *(model for model in wanted if model not in self._pools)]:
            self._pools.setdefault(model, Pool(model)).arrange(wanted.get(model, ()))
        for _, replica in arrangement:
            self._keep(replica)
        for replica in present:
            if not self._works(replica):
                self._dismiss(replica)
        self._forget_empty()

    def changed(self, replica: Replica) -> None:
        """Tell that a replica's health is another, unless it is leaving: another may have its name by now."""
        if self._works(replica):
            self._witness.changed(replica)

    def stalled(self, replica: Replica) -> None:
        """Tell that a replica's engine has stopped to generate, or goes on, likewise."""
        if self._works(replica):
            self._witness.stalled(replica)

    def _inflight(self, model: str, name: str) -> int:
        return sum(len(replica.leases) for replica in self._named(model, name))

    def _named(self, model: str, name: str) -> list[Replica]:
        """Return who has a name, those that leave among them; also asked by other threads."""
        pool = self._pools.get(model)
        everyone = [*pool, *pool.leaving] if pool else []
        return [replica for replica in everyone if replica.name == name]

    def _present(self, wanted: Placement) -> Replica | None:
        return next((replica for replica in self._watches if wanted.is_at(replica)), None)

    def _works(self, replica: Replica) -> bool:
        pool = self._pools.get(replica.model)
        return pool is not None and pool.has(replica)

    def _keep(self, replica: Replica) -> None:
        if replica not in self._watches:
            self._watches[replica] = watch = HealthWatch(replica, self._upstream, self.changed, self.stalled)
            watch.begin()
            self._witness.joined(replica, partial(self._inflight, replica.model, replica.name))
        elif replica in self._leaving:
            self._leaving.pop(replica).cancel()
        else:
            return
        self._witness.changed(replica)

    def _dismiss(self, replica: Replica) -> None:
        self._pools[replica.model].leaving.add(replica)
        self._leaving[replica] = task = asyncio.create_task(self._leave(replica), name=f"leave of {replica.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _leave(self, replica: Replica) -> None:
        while replica.leases:  # noqa: ASYNC110 - to tell of the last lease would cost each request something
            await asyncio.sleep(_LEFT_POLL_S)
        # From here on it cannot come back: who is wanted in its place is another.
        watch = self._watches.pop(replica)
        del self._leaving[replica]
        pool = self._pools[replica.model]
        pool.leaving.discard(replica)
        if not self._named(replica.model, replica.name):
            self._witness.left(replica)
        self._forget_empty()
        await watch.end()

    def _forget_empty(self) -> None:
        for model, pool in [*self._pools.items()]:
            if not [*pool, *pool.leaving]:
                del self._pools[model]
