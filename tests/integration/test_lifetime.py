"""A process that is told to stop by real signals: before it is ready, once, and twice."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from engine.runtime.lifetime import until_stopped


class Block:
    """Something that runs, and what became of it."""

    def __init__(self, *, starts_s: float = 0, drains_s: float = 0) -> None:
        self.starts_s, self.drains_s = starts_s, drains_s
        self.seen: list[str] = []
        self.drained = False

    @asynccontextmanager
    async def __call__(self, hurried: asyncio.Event) -> AsyncIterator[str]:
        try:
            await asyncio.sleep(self.starts_s)
            self.seen.append("began")
            yield "everything"
            try:
                async with asyncio.timeout(self.drains_s):
                    await hurried.wait()
            except TimeoutError:
                self.drained = True
        finally:
            self.seen.append("ended")

    async def ready(self, yielded: str) -> None:
        self.seen.append(f"ready with {yielded}")
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """Give the tests after this one their garbage collector back."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


async def test_a_signal_ends_the_block_once_it_is_ready() -> None:
    block = Block()
    await until_stopped(block, block.ready)
    assert block.seen == ["began", "ready with everything", "ended"]
    assert block.drained


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_before_that_gives_up_the_start(number: signal.Signals) -> None:
    block = Block(starts_s=60)
    asyncio.get_running_loop().call_later(0.05, signal.raise_signal, number)
    async with asyncio.timeout(20):
        await until_stopped(block, block.ready)
    assert block.seen == ["ended"]


async def test_a_second_signal_hurries_the_drain() -> None:
    block = Block(drains_s=60)
    asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGTERM)
    async with asyncio.timeout(20):
        await until_stopped(block, block.ready)
    assert not block.drained


async def test_a_fault_of_the_start_is_its_callers() -> None:
    @asynccontextmanager
    async def broken(hurried: asyncio.Event) -> AsyncIterator[str]:
        if not hurried.is_set():
            raise OSError("no")
        yield ""

    with pytest.raises(OSError, match="no"):
        await until_stopped(broken, Block().ready)
