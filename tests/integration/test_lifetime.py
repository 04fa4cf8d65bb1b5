"""A process that is told by real signals: to stop, before it is ready, once, and twice; and that somebody hung up."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

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


async def test_sighup_is_its_owners_to_hear() -> None:
    heard: list[str] = []
    block = Block()

    async def ready(yielded: str) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0.01)
        heard.append("still here")
        await block.ready(yielded)

    await until_stopped(block, ready, lambda: heard.append("hung up"))
    assert heard == ["hung up", "hung up", "still here"]
    assert block.seen == ["began", "ready with everything", "ended"]


async def test_sighup_is_nothing_to_a_process_whose_owner_does_not_care() -> None:
    block = Block(starts_s=0.1)
    asyncio.get_running_loop().call_later(0.02, signal.raise_signal, signal.SIGHUP)
    await until_stopped(block, block.ready)
    assert block.seen == ["began", "ready with everything", "ended"]


ON_A_TERMINAL = """
import asyncio, fcntl, sys, termios
from contextlib import asynccontextmanager
from engine.runtime.lifetime import until_stopped

fcntl.ioctl(0, termios.TIOCSCTTY, 0)

def tell(what):
    with open(sys.argv[1], "a") as file:
        file.write(what + " ")

@asynccontextmanager
async def running(hurried):
    yield "all"
    tell("ended")

async def ready(everything):
    tell("ready")

asyncio.run(until_stopped(running, ready, lambda: tell("heard")))
"""


def test_a_process_whose_terminal_is_gone_stops(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    told = tmp_path / "told"
    told.touch()
    command = [sys.executable, "-c", ON_A_TERMINAL, str(told)]
    process = subprocess.Popen(command, stdin=theirs, start_new_session=True)
    try:
        os.close(theirs)
        wait_for(told, "ready ")
        process.send_signal(signal.SIGHUP)
        wait_for(told, "ready heard ")
        os.close(ours)
        assert process.wait(20) == 0
        assert told.read_text() == "ready heard ended "
    finally:
        process.kill()


def wait_for(file: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while file.read_text() != text:
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.01)
