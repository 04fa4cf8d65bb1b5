"""
The disks of a world: real files, written at once and without a thread.

A killed process writes nothing more; the kernel takes its locks, as it does from any process that ends.
"""

import asyncio
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import proxy.store.journal.journal
from proxy.store.journal.journal import Journal
from proxy.store.journal.thread import Thread
from tests.simulation.loop import current

_T = TypeVar("_T")


class InlineThread(Thread):
    """Does each job at once and tells how it went in the loop's next turn."""

    def __init__(self, name: str) -> None:
        del name
        self._loop = asyncio.get_running_loop()
        self._process = current()

    def submit(self, job: Callable[[], _T], told: Callable[[_T, Exception | None], None]) -> None:
        """Do the job, unless the process was killed."""
        result: Any = None
        fault: Exception | None = None
        try:
            if self._process is not None and self._process.killed:
                raise OSError("its process was killed")
            result = job()
        except Exception as error:  # noqa: BLE001 (whatever it was, the loop is told)
            fault = error
        self._loop.call_soon(told, result, fault)

    async def stop(self) -> None:
        """There is nothing to stop."""


def unlocked(journal: Journal) -> None:
    """Let go of all that a journal holds, as the kernel does for who was killed."""
    for folder in {segment.folder for segment in journal.segments} | {journal._writer.folder}:
        fcntl.flock(folder.lock_fd, fcntl.LOCK_UN)


@contextmanager
def inline() -> Iterator[None]:
    """Keep journals without threads for the block."""
    with patch.object(proxy.store.journal.journal, "Thread", InlineThread):
        yield
