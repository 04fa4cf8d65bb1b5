"""
One thread that waits for the disk, so that the event loop never does.

Not the loop's executor: there a job would stand behind whatever else is slow, and a disk that hangs would take the
executor's threads, and the process's exit, with it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], Callable[[Any, Exception | None], None]]

STOP_S_MAX = 5.0
"""How long leaving waits for a disk that hangs; the thread then ends with the process."""


class Thread:
    """Runs jobs one after the other and tells the event loop how each went."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], _T], told: Callable[[_T, Exception | None], None]) -> None:
        """Run `job` in the thread, then `told(result, fault)` in the loop; after a fault the result is None."""
        self._jobs.put((job, told))

    async def run(self, job: Callable[[], _T]) -> _T:
        """Return what `job` returned in the thread, or raise what it raised."""
        answer: asyncio.Future[_T] = self._loop.create_future()

        def told(result: _T, fault: Exception | None) -> None:
            if answer.done():
                return
            if fault is None:
                answer.set_result(result)
            else:
                answer.set_exception(fault)

        self.submit(job, told)
        return await answer

    async def stop(self) -> None:
        """Let the thread end behind the jobs it has; one that the disk holds is left behind."""
        ended = asyncio.Event()
        self.submit(lambda: None, lambda _, fault: ended.set())
        self._jobs.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await ended.wait()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, told = job
            result, fault = None, None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 (whatever it was, the loop is told)
                fault = error
            try:
                self._loop.call_soon_threadsafe(told, result, fault)
            except RuntimeError:  # the loop has closed
                return
