"""
A task that runs beside its owner: begun and ended in the owner's `async with`, never left behind. Who owns many that
come and go calls `begin` and `end` instead.

An exception is a bug, told in the log, and no reason to stop: a gateway whose heartbeat has ended is taken for dead.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

PAUSE_S = 1.0
"""Between a failure and the next try."""

_log = logging.getLogger(__name__)


class Background:
    """
    Run `work()` until the block is left; again, after `pause_s` seconds, if it raises.

    `name` is the task's, and what the log calls it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], name: str, *, pause_s: float = PAUSE_S) -> None:
        self._work = work
        self._name = name
        self._pause_s = pause_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def end(self) -> None:
        """Cancel the task and wait for its end; a cancellation of the owner meanwhile goes its way."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        """Begin."""
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        await self.end()

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except Exception:  # noqa: BLE001 (whatever it was, the work goes on)
                _log.exception("background_failed", extra={"task": self._name})
                await asyncio.sleep(self._pause_s)
            else:
                return
