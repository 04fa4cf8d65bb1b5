"""
The times at which a connection is given up: one that is idle, and one whose client does not read its answer.

A head's deadline and the end of lingering are a plain `Deadline`; their owners say what is late.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT


class Deadline:
    """
    One time at which something is late.

    It holds what is called then no longer than that: what holds each other is left to the garbage collector, which
    seldom comes.
    """

    __slots__ = ("_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether something is waited for."""
        return self._timer is not None

    def start(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` so many seconds from now, unless stopped before."""
        self.stop()
        self._timer = self._loop.call_later(seconds, self._over, late)

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self, late: Callable[[], None]) -> None:
        self._timer = None
        late()


class Idling(Protocol):
    """A connection that is idle between its requests."""

    @property
    def idle(self) -> bool:
        """Whether nothing is asked, read or answered."""

    def close_idle(self) -> None:
        """End the connection for want of a request."""


class IdleDeadline:
    """
    When a connection is closed for want of a request.

    Its timer is not set anew for each answer: it looks when the connection was idle last, and waits on.
    """

    __slots__ = ("_loop", "_seconds", "_timer", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0

    def begin(self, connection: Idling) -> None:
        """Count from now; a connection that is not idle at the end waits for the next time."""
        self._until = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._look, connection)

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, connection: Idling) -> None:
        self._timer = None
        if not connection.idle:
            return
        if self._until <= self._loop.time():
            connection.close_idle()
        else:
            self._timer = self._loop.call_at(self._until, self._look, connection)


class WriteDeadline:
    """
    When a client is dropped that does not read its answer: each `seconds` it has to take a buffer of it.

    Bounds: uvicorn's `HIGH_WATER_LIMIT`, the least that the socket's buffer must have lost between two looks.
    """

    __slots__ = ("_behind", "_deadline", "_seconds", "_socket", "_unread")

    def __init__(self, socket: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._socket = socket
        self._deadline = Deadline(loop)
        self._seconds = seconds
        self._behind = False
        self._unread: float = 0
        """What the client had left unread when that was looked at last; infinite if it has caught up since."""

    def falls_behind(self) -> None:
        """Give a client that is behind its time to read."""
        self._behind = True
        self.expect_reading()

    def catches_up(self) -> None:
        """Note that the client has read most of what was written."""
        self._behind = False
        self._unread = math.inf

    def expect_reading(self) -> None:
        """Give a client its time to read the end of what was written, also when nobody waits for it any more."""
        if not self._deadline.running:
            self._unread = self._socket.get_write_buffer_size()
            self._deadline.start(self._seconds, self._look)

    def stop(self) -> None:
        """Wait no more."""
        self._deadline.stop()

    def _look(self) -> None:
        if not (self._behind or self._socket.is_closing()):
            return
        if self._socket.get_write_buffer_size() > self._unread - HIGH_WATER_LIMIT:
            self._socket.abort()
        else:
            self.expect_reading()
