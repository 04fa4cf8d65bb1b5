"""
The head of a stream that waits: it goes out before the first frame, so that no proxy or browser between takes silence
for death. What is not known by then follows in a comment, and an error in-band.

A client that would rather have the real status says `x-tollway-head: hold`.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from proxy.http.downstream import Downstream

_WAITING = b": waiting\n\n"


class EarlyHead:
    """
    The block in which the head may go out by itself. Where none may, it does nothing.

    Units: `after_s` in seconds; None is never. `fields` returns the head's lines, as far as they are known then.
    """

    __slots__ = ("_after_s", "_downstream", "_fields", "_timer")

    def __init__(self, downstream: Downstream, after_s: float | None, fields: Callable[[], bytes]) -> None:
        self._downstream = downstream
        self._after_s = after_s
        self._fields = fields
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if self._after_s is not None:
            self._timer = self._downstream.loop.call_later(self._after_s, self._send)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        self._downstream.begin(self._fields(), _WAITING)
