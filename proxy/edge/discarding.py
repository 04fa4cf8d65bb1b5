"""
How fast is thrown away what nobody wants to read any more: at one pace for all connections of a listener together.

Rule: a turn takes so many bytes, in equal shares for those that are read in it; the others are read in one of the next,
in the order of asking. One honest client's body of 32 MiB is taken within a second, so that it sees why it was refused;
a thousand hostile ones cost no more than that.

Decision: what is refused is read on, slowly, instead of not at all.
Because a client that is still sending sees the answer only once it has sent everything, and its hang-up is seen only on
a connection that is read.
Instead of a bound for each connection, which many connections would multiply.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

_TURN_S = 0.025
_TURN_BYTES = 2**20
"""For all connections in a turn: 40 MiB a second."""
_READ_BYTES = 256 * 1024
"""At most what a connection hands over at a time, once it is read again."""


class Readable(Protocol):
    """A connection that can be left unread for a while."""

    def pause_reading(self) -> None:
        """Read no more."""

    def resume_reading(self) -> None:
        """Read on."""


class Discarding:
    """
    The bytes that are thrown away, and the connections that wait until theirs are.

    Bounds: `_TURN_BYTES` in `_TURN_S`, and one read of each new connection.
    """

    def __init__(self) -> None:
        self._left = _TURN_BYTES
        """Of this turn; below 0 for what new connections took of the next."""
        self._share = _TURN_BYTES
        self._taken: dict[Readable, int] = {}
        """In this turn."""
        self._waiting: OrderedDict[Readable, None] = OrderedDict()
        self._turn: asyncio.TimerHandle | None = None

    def take(self, size: int, connection: Readable, loop: asyncio.AbstractEventLoop) -> None:
        """Count what a connection has sent; leave it unread until its next turn where that was its share."""
        self._left -= size
        self._taken[connection] = self._taken.get(connection, 0) + size
        if self._left < 0 or self._taken[connection] >= self._share:
            connection.pause_reading()
            self._waiting[connection] = None
        if self._turn is None:
            self._turn = loop.call_later(_TURN_S, self._next, loop)

    def leave(self, connection: Readable) -> None:
        """Forget a connection that has ended."""
        self._taken.pop(connection, None)
        self._waiting.pop(connection, None)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = min(self._left + _TURN_BYTES, _TURN_BYTES)
        self._taken.clear()
        read = min(len(self._waiting), max(0, self._left) // _READ_BYTES)
        self._share = self._left // read if read else _TURN_BYTES
        for _ in range(read):
            self._waiting.popitem(last=False)[0].resume_reading()
        more = read or self._waiting or self._left < _TURN_BYTES
        self._turn = loop.call_later(_TURN_S, self._next, loop) if more else None
