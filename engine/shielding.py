"""Letting go of things properly while somebody cancels us."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def shielded(work: Coroutine[Any, Any, _T] | asyncio.Task[_T]) -> _T:
    """
    Run `work` to its end even when this task is cancelled meanwhile, and only then let the cancellation through.

    What `work` raised goes with the cancellation as its cause.

    Bounds: none of its own; `work` must have a deadline.
    """
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    ended = _Ended(loop=task.get_loop())
    task.add_done_callback(ended.tell)
    try:
        await ended
    except asyncio.CancelledError as cancelled:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


class _Ended(asyncio.Future[None]):
    """
    Done when a task is.

    Whoever waits for it cannot cancel it: one that is cancelled learns first that the task is done, and is cancelled
    then.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Refuse."""
        return False

    def tell(self, task: asyncio.Task[Any]) -> None:
        """Wake up who waits."""
        self.set_result(None)
