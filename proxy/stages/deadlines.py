"""How long a relay waits, and for whom."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Deadlines:
    """
    One deadline that moves with every step of a relay, under one that never moves; a block of the task that relays.

    Raises `TimeoutError` out of its block when a step took too long; `blames_client` tells whose step it was. A step
    moves a number and no timer: the one timer looks at the number when it fires, and waits on if it has moved.

    A step of the replica's that took too long may be given more by `spare`, which is asked then and at no other time.

    Units: seconds. The first step is the replica's and lasts `first_s`; the whole block lasts at most `whole_s`. One
    that is gone gets `gone_s` and no more for the step it is at.
    """

    _task: asyncio.Task[object]
    _timer: asyncio.TimerHandle

    def __init__(self, loop: asyncio.AbstractEventLoop, *, first_s: float, whole_s: float, gone_s: float) -> None:
        self._loop = loop
        self._gone_s = gone_s
        self._first_s = first_s
        self._whole_s = whole_s
        self._over = False
        self.blames_client = False
        self.spare: Callable[[], float] | None = None
        """Returns how many seconds more a replica gets whose time is over; none where it is not above zero."""

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        now = self._loop.time()
        self._end = now + self._whole_s
        self._replica_due = now + self._first_s
        self._due = min(self._replica_due, self._end)
        self._look_at(self._due)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self.spare = None  # it holds what holds this
        self._replica_due = 0.0  # whoever hurries it now comes too late
        # As `asyncio.timeout` does: a cancellation of ours is taken back, anybody else's goes on.
        if self._over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def with_replica(self, s: float) -> None:
        """Give the replica `s` seconds for the next step."""
        self._replica_due = due = self._loop.time() + s
        self.blames_client = False
        self._until(due)

    def back_to_replica(self) -> None:
        """Wait for the same step of the replica's as before, and no longer than it was given."""
        self.blames_client = False
        self._until(self._replica_due)

    def hurry(self) -> None:
        """Give the replica less time for the step it is at: it is gone. Hurried again, it gets no more."""
        due = self._loop.time() + self._gone_s
        if due < self._replica_due:
            self._replica_due = due
            if not self.blames_client:
                self._until(due)

    def with_client(self, s: float) -> None:
        """Give the client `s` seconds for the next step."""
        self.blames_client = True
        self._until(self._loop.time() + s)

    def _until(self, due: float) -> None:
        self._due = due if due < self._end else self._end
        if self._due < self._looks_at:
            self._timer.cancel()
            self._look_at(self._due)

    def _look_at(self, due: float) -> None:
        self._looks_at = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self._due <= now and (more_s := self._spared_s(now)) > 0:
            self._due = self._replica_due = min(now + more_s, self._end)
        if self._due <= now:
            self._over = True
            self._task.cancel()
        else:
            self._look_at(self._due)

    def _spared_s(self, now: float) -> float:
        if self.spare is None or self.blames_client or now >= self._end:
            return 0.0
        return self.spare()
