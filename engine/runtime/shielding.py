"""Letting go of things properly while somebody cancels us."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

_T = TypeVar("_T")


async def shielded(work: Coroutine[Any, Any, _T] | asyncio.Task[_T]) -> _T:
    """
    Run `work` to its end even when this task is cancelled meanwhile, and only then let the cancellation through.

    What `work` raised goes with the cancellation as its cause.

    Bounds: none of its own; `work` must have a deadline.
    """
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    try:
        await _Kept(task)
    except asyncio.CancelledError as cancelled:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


class _Kept:
    """
    A task as it looks to another that waits for its end and cannot cancel it.

    Who is cancelled meanwhile learns first that it has ended, and is cancelled then.
    Source: asyncio's protocol between a task and what it awaits, as `asyncio.isfuture` tells it.
    """

    __slots__ = ("_asyncio_future_blocking", "_task", "_tell")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._asyncio_future_blocking = True

    def __await__(self) -> Generator[Any, None, None]:
        yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._task.get_loop()

    def add_done_callback(self, tell: Callable[["_Kept"], object], *, context: Any = None) -> None:
        self._tell = tell
        self._task.add_done_callback(self._ended, context=context)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tell(self)

    def result(self) -> None:
        """Say nothing: whoever waits asks the task."""

    def cancel(self, msg: Any = None) -> bool:
        """Refuse."""
        return False
