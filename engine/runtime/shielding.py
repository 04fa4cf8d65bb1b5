"""Letting go of things properly while somebody cancels us."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def shielded(work: Coroutine[Any, Any, _T]) -> _T:
    """
    Run `work` to its end even when this task is cancelled meanwhile, and only then let the cancellation through.

    What `work` raised goes with the cancellation as its cause.

    Bounds: none of its own; `work` must have a deadline.
    """
    task = asyncio.create_task(work)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            cancellation = cancelled
        except Exception:  # noqa: BLE001 (it is the task's, and told below)
            break
    if cancellation is not None:
        raise cancellation from (None if task.cancelled() else task.exception())
    return task.result()
