"""
The line to one server: calls go out in the order in which they were given, and their answers come back in it.

Rules:
- All calls of one turn of the event loop go out in one write, over one socket.
- A server that is silent to a call for `deadline_s` ends the socket, with all that wait on it: behind that call nothing
  can be answered.
- The socket opens with the first call, and with the first one after it ended. Where the line leads is looked up each
  time.
- What an error or an ended socket means is each call's own business: it may go out again, on this line or another.

Must not know scripts, keys, nor how many servers there are.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, cast

import hiredis

from proxy.redis.address import Node

WAITING_MAX = 20_000
PAUSE_S = 0.05
"""Before something is looked at again that is about to change: who the primary is, where a slot has gone."""

Word = str | int | bytes


class ServerSilent(Exception):
    """Redis did not answer in time, or so many calls wait that this one could not."""


class SocketLost(Exception):
    """The socket ended, or never came to be."""


class ErrorReply(Exception):
    """Redis answered with an error; it is the message."""


class Command:
    """One command on its way, which is answered or fails once."""

    __slots__ = ("answer", "key", "packed", "since")

    def __init__(self, answer: asyncio.Future[Any], packed: bytes, key: str | None = None) -> None:
        self.answer = answer
        self.packed = packed
        self.key = key
        self.since = monotonic()
        """When it was given to its line."""

    def answered(self, value: Any, now: float) -> None:
        """Take the answer."""
        if not self.answer.done():
            self.answer.set_result(value)

    def held(self) -> None:
        """Learn that it waits where nobody keeps its deadline."""

    def refused(self, line: "Socket", message: str) -> None:
        """Take an error for an answer."""
        self.lost(ErrorReply(message))

    def lost(self, fault: Exception) -> None:
        """Learn that no answer will come on this line."""
        if not self.answer.done():
            self.answer.set_exception(fault)


class Socket:
    """
    Calls to the server at the place that `locate` tells: `line.send(call)`, `await line.ask("PING")`.

    `greeting` are the commands that a socket begins with; `primary` leaves a server that turns out to be a replica.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Node]],
        *,
        deadline_s: float,
        tls: ssl.SSLContext | None = None,
        greeting: Sequence[tuple[Word, ...]] = (),
        primary: bool = False,
    ) -> None:
        self._locate = locate
        self._deadline_s = deadline_s
        self._tls = tls
        self._greeting = greeting
        self._primary = primary
        self._socket: _Socket | None = None
        self._queue: list[Command] = []
        self._opening: asyncio.Task[None] | None = None
        self.place: Node | None = None
        """Where it led last."""

    def send(self, call: Command) -> None:
        """Send a call; it learns by itself what became of it."""
        if self._socket is not None:
            self._socket.send(call)
            return
        if len(self._queue) >= WAITING_MAX:
            call.lost(ServerSilent(f"{WAITING_MAX} calls wait already"))
            return
        self._queue.append(call)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    def ask(self, *command: Word) -> asyncio.Future[Any]:
        """
        Send a command, once; return its answer to come, text as `str`.

        Raises: ServerSilent, SocketLost, ErrorReply, when it is awaited.
        """
        call = _plain(command)
        self.send(call)
        return call.answer

    async def relocate(self) -> None:
        """Leave a server to which this line leads no longer; stay where nobody can tell."""
        with suppress(SocketLost, ServerSilent, ErrorReply):
            place = await self._locate()
            if self._socket is not None and place != self.place:
                self.leave(SocketLost(f"{self.place} is the primary no longer"))

    def leave(self, fault: Exception) -> None:
        """End the socket; the next call opens another."""
        if self._socket is not None:
            self._socket.close(fault)

    @property
    def idle(self) -> bool:
        """Whether nobody waits on it."""
        return not self._queue and (self._socket is None or not self._socket.waiting)

    async def close(self) -> None:
        """End it for good; who waits is told."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        fault = SocketLost("nobody calls any more")
        self._give_back(fault)
        self.leave(fault)

    async def _open(self) -> None:
        fault: Exception
        try:
            async with asyncio.timeout(self._deadline_s):
                socket = await self._met()
        except OSError as error:  # a TimeoutError is one
            fault = SocketLost(str(error) or type(error).__name__)
            fault.__cause__ = error
        except (ServerSilent, SocketLost, ErrorReply) as error:
            fault = error
        else:
            self._opening = None
            self._socket = socket
            queue, self._queue = self._queue, []
            for call in queue:
                if not call.answer.done():
                    socket.send(call)
            return
        self._opening = None
        self._give_back(fault)

    async def _met(self) -> "_Socket":
        """Return a socket to whoever is the right server by now."""
        while True:
            self.place = await self._locate()
            socket = await self._dial(self.place)
            try:
                for command in self._greeting:
                    await socket.ask(command)
                if not self._primary or (await socket.ask(("ROLE",)))[0] == "master":
                    return socket
            except BaseException:
                socket.close(SocketLost("it was not greeted"))
                raise
            socket.close(SocketLost("it is a replica"))
            await asyncio.sleep(PAUSE_S)

    async def _dial(self, place: Node) -> "_Socket":
        loop = asyncio.get_running_loop()

        def socket() -> _Socket:
            return _Socket(self, self._deadline_s)

        if place.port == 0:
            return (await loop.create_unix_connection(socket, place.host))[1]
        return (await loop.create_connection(socket, place.host, place.port, ssl=self._tls))[1]

    def _give_back(self, fault: Exception) -> None:
        queue, self._queue = self._queue, []
        for call in queue:
            call.lost(fault)

    def ended(self, socket: "_Socket") -> None:
        """Learn that a socket ended, before its calls do."""
        if self._socket is socket:
            self._socket = None


class _Socket(asyncio.Protocol):
    def __init__(self, line: Socket, deadline_s: float) -> None:
        self._line = line
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(encoding="utf-8", notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.waiting: deque[Command] = deque()

    def send(self, call: Command) -> None:
        if self._closed:
            call.lost(SocketLost("the socket is closed"))
            return
        if len(self.waiting) >= WAITING_MAX:
            call.lost(ServerSilent(f"{WAITING_MAX} calls wait already"))
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(call.packed)
        self.waiting.append(call)
        if self._timer is None:
            self._timer = self._loop.call_later(self._left_s(call), self._look_at_the_clock)

    def ask(self, command: tuple[Word, ...]) -> asyncio.Future[Any]:
        call = _plain(command)
        self.send(call)
        return call.answer

    def close(self, fault: Exception) -> None:
        if self._closed:
            return
        self._closed = True
        self._line.ended(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._outgoing.clear()
        waiting, self.waiting = self.waiting, deque()
        for call in waiting:
            call.lost(fault)

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def _look_at_the_clock(self) -> None:
        """Look at the oldest call; one timer serves all, as often as the deadline passes."""
        self._timer = None
        if not self.waiting:
            return
        left_s = self._left_s(self.waiting[0])
        if left_s <= 0:
            self.close(ServerSilent(f"no answer within {self._deadline_s:g} s"))
        else:
            self._timer = self._loop.call_later(left_s, self._look_at_the_clock)

    def _left_s(self, call: Command) -> float:
        return call.since + self._deadline_s - monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, waiting, now = self._reader, self.waiting, monotonic()
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _INCOMPLETE:
                call = waiting.popleft()
                if answer.__class__ is hiredis.ReplyError:
                    call.refused(self._line, str(answer))
                    if self._closed:
                        break
                else:
                    call.answered(answer, now)
        except (hiredis.ProtocolError, IndexError, UnicodeDecodeError) as error:
            self.close(SocketLost(f"not what Redis sends: {type(error).__name__}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(SocketLost(str(exc) if exc else "the socket ended"))


def packed(command: tuple[Word, ...]) -> bytes:
    """Return a command as it travels."""
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # its stub means one word


def _plain(command: tuple[Word, ...]) -> Command:
    return Command(asyncio.get_running_loop().create_future(), packed(command))


_INCOMPLETE = object()
