"""
Keeps a process alive: when it ends it is started again, after a pause that doubles each time.

Rules:
- The first start must work, where its owner waits for it: its fault is the owner's. What goes wrong later is told and
  tried again.
- One that was up for `SETTLED_S` begins anew with the shortest pause.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from engine.runtime.process import ChildFailed
from engine.runtime.shielding import shielded

PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 60.0
"""Between the death of a process and its next start."""
SETTLED_S = 60.0


class Keeper:
    """
    Runs one process, life after life, until it is cancelled.

    `live` runs it once: it sets the event that it is given when the process is ready, and returns in words how it
    ended. `died` is told that, and when it starts again.
    """

    def __init__(self, live: Callable[[asyncio.Event], Awaitable[str]], died: Callable[[str], None]) -> None:
        self.up = asyncio.Event()
        """Set when it was ready for the first time."""
        self._live = live
        self._died = died

    async def run(self, *, must_start: bool = True) -> None:
        """Raises: ChildFailed or OSError when the first start fails, and it `must_start`."""
        pause_s = PAUSE_S_MIN
        while True:
            began = time.monotonic()
            try:
                became = await self._live(self.up)
            except (ChildFailed, OSError) as fault:
                if must_start and not self.up.is_set():
                    raise
                became = str(fault)
            if time.monotonic() - began > SETTLED_S:
                pause_s = PAUSE_S_MIN
            self._died(f"{became}; it starts again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)


class Kept:
    """The keepers that run now: `async with Kept() as kept`; leaving the block ends all of them."""

    def __init__(self) -> None:
        self._lives: dict[Keeper, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        await self._end(list(self._lives.values()))

    async def start(self, keepers: Sequence[Keeper]) -> None:
        """
        Run these too, and wait until each of them is up.

        Raises: what the first of them that could not start ended with.
        """
        lives = [self._begin(keeper, must_start=True) for keeper in keepers]
        up = asyncio.create_task(_each_up(keepers))
        try:
            await asyncio.wait({up, *lives}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        for life in lives:
            if life.done():
                life.result()

    def begin(self, keeper: Keeper) -> None:
        """Run one more; a start that fails is told and tried again."""
        self._begin(keeper, must_start=False)

    async def end(self, keeper: Keeper) -> None:
        """End one."""
        await self._end([self._lives.pop(keeper)])

    def _begin(self, keeper: Keeper, *, must_start: bool) -> asyncio.Task[None]:
        life = self._lives[keeper] = asyncio.create_task(keeper.run(must_start=must_start))
        return life

    async def _end(self, lives: Sequence[asyncio.Task[None]]) -> None:
        for life in lives:
            life.cancel()
        await shielded(_ended(lives))


@asynccontextmanager
async def kept(keepers: Sequence[Keeper]) -> AsyncIterator[Kept]:
    """
    Run `keepers` side by side, from when all of them are up until the block is left.

    Raises: what the first of them that could not start ended with.
    """
    async with Kept() as running:
        await running.start(keepers)
        yield running


async def _each_up(keepers: Sequence[Keeper]) -> None:
    for keeper in keepers:
        await keeper.up.wait()


async def _ended(lives: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*lives, return_exceptions=True)
