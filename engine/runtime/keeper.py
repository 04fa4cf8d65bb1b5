"""
Keeps a process alive: when it ends it is started again, after a pause that doubles each time.

Rules:
- The first start must work: its fault is its owner's. What goes wrong later is told and tried again.
- One that was up for `SETTLED_S` begins anew with the shortest pause.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

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

    async def run(self) -> None:
        """Raises: ChildFailed or OSError when the first start fails."""
        pause_s = PAUSE_S_MIN
        while True:
            began = time.monotonic()
            try:
                became = await self._live(self.up)
            except (ChildFailed, OSError) as fault:
                if not self.up.is_set():
                    raise
                became = str(fault)
            if time.monotonic() - began > SETTLED_S:
                pause_s = PAUSE_S_MIN
            self._died(f"{became}; it starts again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)


@asynccontextmanager
async def kept(keepers: Sequence[Keeper]) -> AsyncIterator[None]:
    """
    Run `keepers` side by side, from when all of them are up until the block is left.

    Raises: what the first of them that could not start ended with.
    """
    lives = [asyncio.create_task(keeper.run()) for keeper in keepers]
    try:
        await _all_up(keepers, lives)
        yield
    finally:
        for life in lives:
            life.cancel()
        await shielded(_ended(lives))


async def _all_up(keepers: Sequence[Keeper], lives: Sequence[asyncio.Task[None]]) -> None:
    up = asyncio.create_task(_each_up(keepers))
    try:
        await asyncio.wait({up, *lives}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        up.cancel()
    for life in lives:
        if life.done():
            life.result()


async def _each_up(keepers: Sequence[Keeper]) -> None:
    for keeper in keepers:
        await keeper.up.wait()


async def _ended(lives: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*lives, return_exceptions=True)
