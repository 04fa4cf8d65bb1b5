"""Letting go of things properly while somebody cancels us."""

import asyncio
from collections.abc import Coroutine
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


async def shielded(work: Coroutine[Any, Any, _T]) -> _T:
    """
    Run `work` to its end even when this task is cancelled meanwhile, and only then let the cancellation through.

    What `work` raised goes with the cancellation as its cause.

    Bounds: none of its own; `work` must have a deadline.
    """
    waiter = asyncio.current_task()
    assert waiter is not None
    task = _Kept(work, loop=waiter.get_loop())
    task.waiter, task.refused = waiter, waiter.cancelling()
    try:
        return await task
    except asyncio.CancelledError as cancelled:
        raise cancelled from (None if task.cancelled() else task.exception())


class _Kept(asyncio.Task[_T]):
    """
    A task that who waits for it does not cancel: who is cancelled meanwhile learns so at its end.

    A deadline within the work cancels it all the same. It is told apart by what the waiter counts of its own
    cancellations, which a task does before it passes one on; and before the work has begun there is none.

    Decision: this instead of `asyncio.shield`, which answers at once and must be asked again until the task is done;
    and takes a future and a turn of the loop more, 4 microseconds of each request.
    """

    waiter: asyncio.Task[Any]
    refused: int
    """How many cancellations of who waits are not passed on."""

    @property
    def _work(self) -> Coroutine[Any, Any, _T]:
        return cast("Coroutine[Any, Any, _T]", self.get_coro())

    def cancel(self, msg: Any = None) -> bool:
        """Refuse a cancellation of who waits."""
        counted = self.waiter.cancelling()
        if counted > self.refused or getcoroutinestate(self._work) == CORO_CREATED:
            self.refused = counted
            return False
        return super().cancel(msg)
