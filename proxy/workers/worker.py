"""
A worker as its supervisor keeps it: one place, life after life.

Rules:
- A worker is asked for its report every `ASK_S`, and less often where that would take more than a fiftieth of its time.
  Killed, it takes with it what it counted since; the ledger has it all the same.
- One that has not answered for `HUNG_S` is killed: the kernel would go on giving it its share of the clients.
- What a life counted is kept before the next one begins; its gauges go with it.
- One that is up has the task that was given last, or is killed: the next life has it.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from engine.runtime.background import Background
from engine.runtime.keeper import Keeper
from engine.runtime.process import Child, ChildFailed, told
from proxy.observe.joined import JoinedExposition
from proxy.observe.metrics import Metrics
from proxy.settings import Settings
from proxy.workers.channel import Channel, Message
from proxy.workers.life import Life

READY_S_MAX = 300.0
"""A start settles first what gateways before it left in their logs."""
ASK_S = 1.0
ASKED_SHARE = 50
HUNG_S = 30.0
STEPS = ("check", "bar", "swap")
"""Of a reload (`proxy/compose/own_config.py`)."""
STEP_S_MAX = 5.0
"""For a worker to do one: the longest waits for a look at replicas that are new."""
_STOP_S_MAX = 20.0
"""Beyond notice and drain: what was cut is told and settled."""

_log = logging.getLogger(__name__)


class Task(NamedTuple):
    """What a worker is told to do."""

    settings: Settings
    """Its share of the whole."""
    log_level: str

    def message(self) -> Message:
        """Return it as it is sent to a new life."""
        return {"settings": self.settings.model_dump_json(), "log_level": self.log_level}

    @property
    def stop_s_max(self) -> float:
        """Return how long it may take from SIGTERM to its end."""
        limits = self.settings.limits
        return limits.drain_notice_s + limits.drain_s_max + _STOP_S_MAX


class Worker:
    """One place among the workers; `task` is what its lives are told to do."""

    def __init__(self, place: int, task: Task, *, metrics: Metrics, counted: JoinedExposition) -> None:
        self.life: Life | None = None
        """Who has the place now; None between two lives."""
        self.up = False
        """Whether it serves, by its task."""
        self.task = task
        self.place = place
        self.keeper = Keeper(self._live, self._died)
        self._child: Child | None = None
        self._metrics = metrics
        self._counted = counted

    def give(self, task: Task) -> None:
        """Give it another task: to each life from the next on, and to one that is being born as soon as it lives."""
        self.task = task
        if self._child is not None:
            self._child.stop_s_max = task.stop_s_max

    async def take(self, step: str, task: Task) -> Message | None:
        """Have the life that is up do a step of a reload; return what it says, None where nobody answers."""
        if self.life is None:
            return None
        settings = {"settings": task.settings.model_dump_json()} if step == "check" else {}
        return await self.life.ask({"take": step, **settings}, STEP_S_MAX)

    def kill(self, why: str) -> None:
        """End the life that is; the next one has the task that was given."""
        if self._child is not None:
            _log.error("worker_hung", extra={"worker": self.place, "reason": why})
            self._child.kill()

    async def _live(self, up: asyncio.Event) -> str:
        async with self._begun() as (life, theirs):
            command = (sys.executable, "-P", "-m", "proxy.workers.serve", str(theirs.fileno()))
            name, task = f"worker {self.place}", self.task
            made = Child(name, command, log=None, stop_s_max=task.stop_s_max, pass_fds=[theirs.fileno()])
            async with made as self._child:
                theirs.close()
                await life.tell(task.message())
                await _ready(made, life)
                await self._catch_up(task)
                _log.info(
                    "worker_serves",
                    extra={"worker": self.place, "pid": made.pid, "incarnation": life.incarnation},
                )
                self._metrics.worker_up(self.place, up=True)
                up.set()
                async with Background(partial(self._ask_on, life), name):
                    return told(await made.wait())

    async def _catch_up(self, task: Task) -> None:
        """Have a new life take the config that came while it was born; raise ChildFailed where it does not."""
        while task is not self.task:
            task = self.task
            for step in STEPS:
                answer = await self.take(step, task)
                if answer is None or answer["faults"]:
                    raise ChildFailed("it does not take the config that holds")
        self.up = True

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[tuple[Life, socket.socket]]:
        """Yield a new life and the other end of its line; on leaving, what it counted is kept."""
        ours, theirs = socket.socketpair()
        with theirs:
            async with Channel.over(ours) as line:
                life = Life(line)
                async with Background(life.listen, "tollway-line"):
                    self.life = life
                    try:
                        yield life, theirs
                    finally:
                        theirs.close()
                        try:
                            await life.last_words()
                        finally:
                            self._end(life)

    def _end(self, life: Life) -> None:
        self.life, self.up, self._child = None, False, None
        self._metrics.worker_up(self.place, up=False)
        if life.report is not None:
            self._counted.ended(life.report["exposition"])

    async def _ask_on(self, life: Life) -> None:
        while await life.refresh(HUNG_S):  # noqa: ASYNC110 - it asks, and waits for no event
            await asyncio.sleep(max(ASK_S, ASKED_SHARE * life.cpu_s))
        if not life.over.is_set():
            self.kill(f"no answer for {HUNG_S:g} s")

    def _died(self, became: str) -> None:
        self._metrics.worker_died()
        _log.error("worker_ended", extra={"worker": self.place, "reason": became})


async def _ready(child: Child, life: Life) -> None:
    """Wait until it serves; raise ChildFailed, with its own words where it found some."""

    async def serves() -> bool:
        return life.incarnation is not None

    try:
        await child.ready(serves, within_s=READY_S_MAX)
    except ChildFailed:
        await life.last_words()
        if life.fatal is not None:
            raise ChildFailed(life.fatal) from None
        raise
