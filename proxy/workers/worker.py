"""
A worker as its supervisor keeps it: one place, life after life.

Rules:
- A worker is asked for its report every `ASK_S`, and less often where that would take more than a fiftieth of its time.
  Killed, it takes with it what it counted since; the ledger has it all the same.
- One that has not answered for `HUNG_S` is killed: the kernel would go on giving it its share of the clients.
- What a life counted is kept before the next one begins; its gauges go with it.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from engine.runtime.background import Background
from engine.runtime.keeper import Keeper
from engine.runtime.process import Child, ChildFailed, told
from proxy.observe.joined import JoinedExposition
from proxy.observe.metrics import Metrics
from proxy.workers.channel import Channel, Message
from proxy.workers.life import Life

READY_S_MAX = 300.0
"""A start settles first what gateways before it left in their logs."""
ASK_S = 1.0
ASKED_SHARE = 50
HUNG_S = 30.0

_log = logging.getLogger(__name__)


class Worker:
    """
    One place among the workers.

    `task` is what each of its lives is told to do. Units: `stop_s_max` in seconds, from SIGTERM to SIGKILL.
    """

    def __init__(
        self, place: int, task: Message, *, stop_s_max: float, metrics: Metrics, counted: JoinedExposition
    ) -> None:
        self.life: Life | None = None
        """Who has the place now; None between two lives."""
        self.keeper = Keeper(self._live, self._died)
        self._place = place
        self._task = task
        self._stop_s_max = stop_s_max
        self._metrics = metrics
        self._counted = counted

    async def _live(self, up: asyncio.Event) -> str:
        async with self._begun() as (life, theirs):
            command = (sys.executable, "-P", "-m", "proxy.workers.serve", str(theirs.fileno()))
            name = f"worker {self._place}"
            async with Child(name, command, log=None, stop_s_max=self._stop_s_max, pass_fds=[theirs.fileno()]) as child:
                theirs.close()
                await life.tell(self._task)
                await _ready(child, life)
                _log.info(
                    "worker_serves",
                    extra={"worker": self._place, "pid": child.pid, "incarnation": life.incarnation},
                )
                self._metrics.worker_up(self._place, up=True)
                up.set()
                async with Background(partial(self._ask_on, life, child), name):
                    return told(await child.wait())

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
        self.life = None
        self._metrics.worker_up(self._place, up=False)
        if life.report is not None:
            self._counted.ended(life.report["exposition"])

    async def _ask_on(self, life: Life, child: Child) -> None:
        while await life.refresh(HUNG_S):  # noqa: ASYNC110 - it asks, and waits for no event
            await asyncio.sleep(max(ASK_S, ASKED_SHARE * life.cpu_s))
        if not life.over.is_set():
            _log.error("worker_hung", extra={"worker": self._place, "reason": f"no answer for {HUNG_S:g} s"})
            child.kill()

    def _died(self, became: str) -> None:
        self._metrics.worker_died()
        _log.error("worker_ended", extra={"worker": self._place, "reason": became})


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
