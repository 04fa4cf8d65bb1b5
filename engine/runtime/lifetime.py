"""
How long a process of ours runs: from when everything answers until it is told to stop.

The first SIGINT or SIGTERM stops it, a second one cuts its drain short, and one before it is ready gives up its start.
SIGHUP is its owner's to hear, as daemons use it; but where it means what it says, that the terminal on which it was
started is gone, it stops.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

_ALLOCATIONS_A_SEARCH = 50_000
"""Objects made and not yet freed between two searches for garbage in cycles; some 5 MB."""

_Started = TypeVar("_Started")


async def until_stopped(
    running: Callable[[asyncio.Event], AbstractAsyncContextManager[_Started]],
    ready: Callable[[_Started], Awaitable[None]],
    hung_up: Callable[[], None] = lambda: None,
) -> None:
    """
    Run the block that `running` returns until a signal; `ready` is called once with what it yields.

    The event that it is given tells a drain to wait no longer. `hung_up` is called for each SIGHUP.

    Raises: whatever the start does.
    """
    with _stopping(hung_up) as (stop, hurried):
        async with _given_up(stop) as started, running(hurried) as everything:
            started()
            _spare_collector()
            await ready(everything)
            await stop.wait()


def _spare_collector() -> None:
    """
    Let the garbage collector pass over what lives as long as the gateway, and look for cycles less often.

    A request leaves almost none; at Python's own threshold the search for them takes an eighth of all time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_A_SEARCH)


@asynccontextmanager
async def _given_up(stop: asyncio.Event) -> AsyncIterator[Callable[[], object]]:
    """Leave the block as soon as `stop` is set, unless what is yielded was called before."""
    task = asyncio.current_task()
    assert task is not None
    cut = False

    async def watch() -> None:
        nonlocal cut
        await stop.wait()
        cut = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield watcher.cancel
    except asyncio.CancelledError:
        if not cut or task.uncancel():
            raise
    finally:
        watcher.cancel()


@contextmanager
def _stopping(hung_up: Callable[[], None]) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Yield an event that the first SIGINT or SIGTERM sets, and one that the next sets."""
    stop, hurried, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
    on_terminal = _has_terminal()

    def signalled() -> None:
        (hurried if stop.is_set() else stop).set()

    def hang_up() -> None:
        if on_terminal and not _has_terminal():
            signalled()
        else:
            hung_up()

    handlers = {signal.SIGINT: signalled, signal.SIGTERM: signalled, signal.SIGHUP: hang_up}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield stop, hurried
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _has_terminal() -> bool:
    """Tell whether this process has a terminal, and somebody is at it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
