"""
How a connection ends: so that its client sees the last answer, and not a reset.

Closing a socket that has unread bytes resets it, and a reset takes from the client what it has not read yet. Where the
client may still be sending, only our side is ended, and what comes is thrown away until the client ends its own.

Source: RFC 9112 section 9.6.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from proxy.edge.deadlines import Deadline, WriteDeadline
from proxy.edge.edge import Edge

_LINGER_S = 2.0


class ConnectionState(Enum):
    """
    How far a connection has ended; it goes forward only.

    | state     | what comes      | what goes out                    | next                                        |
    |-----------|-----------------|----------------------------------|---------------------------------------------|
    | OPEN      | is read         | answers                          | any of them                                 |
    | REFUSED   | is thrown away  | the answers before, the refusal  | LINGERING when they are out, or LOST        |
    | LINGERING | is thrown away  | nothing more                     | LOST when the client ends, or time is up    |
    | LOST      | nothing         | nothing                          |                                             |
    """

    OPEN = auto()
    REFUSED = auto()
    LINGERING = auto()
    LOST = auto()


OPEN, REFUSED, LINGERING, LOST = ConnectionState
"""By name in the module, because an attribute of an enumeration takes ten times as long and each request asks twice."""
_OVER = (LINGERING, LOST)


class LingeringTransport:
    """
    The transport of a connection as uvicorn and the cycles see it: they close it, and it lingers where it must.

    Bounds: `_LINGER_S` for the client to end its side, and a `WriteDeadline` for it to read what was written.
    """

    def __init__(
        self,
        socket: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        edge: Edge,
        *,
        arriving: Callable[[], object],
        ending: Callable[[], None],
    ) -> None:
        """Stand for a socket. `arriving` tells whether a body is still coming; `ending` is called when it lingers."""
        self.state = OPEN
        self.write = socket.write
        self.get_extra_info = socket.get_extra_info
        self.pause_reading = socket.pause_reading
        self.resume_reading = socket.resume_reading
        self.abort = socket.abort
        self.write_deadline = WriteDeadline(socket, loop, edge.write_s_max)
        self._socket = socket
        self._loop = loop
        self._edge = edge
        self._deadline = Deadline(loop)
        self._arriving: Callable[[], object] = arriving
        self._ending: Callable[[], None] = ending
        self._last_words = b""

    @property
    def over(self) -> bool:
        """Whether our side has ended."""
        return self.state in _OVER

    def is_closing(self) -> bool:
        """Tell whether nothing more can be said."""
        return self.state in _OVER or self._socket.is_closing()

    def close(self) -> None:
        """Close; linger first where the client may still be sending."""
        if self.state in _OVER:
            return
        sending = self.state is REFUSED or self._arriving()
        if sending and not self._socket.is_closing():
            self._linger()
        else:
            self._socket.close()
            if self._socket.get_write_buffer_size():
                self.write_deadline.expect_reading()

    def refuse(self, last_words: bytes) -> None:
        """Read no more; `say_last` says these words once the answers before them are out."""
        self.state = REFUSED
        self._last_words = last_words

    def say_last(self) -> None:
        """Say why the connection was refused, and end it."""
        self._socket.write(self._last_words)
        self._linger()

    def discard(self, data: bytes) -> None:
        """Throw away what has come."""
        self._edge.discarding.take(len(data), self._socket, self._loop)

    def lost(self) -> None:
        """Give everything back, and let go of whose transport it is: what holds each other waits for the collector."""
        if self.state is not OPEN:
            self._edge.discarding.leave(self._socket)
        if self.state is LINGERING:
            self._edge.lingering -= 1
        self.state = LOST
        self._deadline.stop()
        self.write_deadline.stop()
        self._arriving = self._ending = _nothing

    def _linger(self) -> None:
        self.state = LINGERING
        self._edge.lingering += 1
        self._ending()
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self._deadline.start(_LINGER_S, self._socket.abort)


def _nothing() -> None:
    """Stand for whoever is gone."""
