"""
The socket to one server: commands go out in the order in which they were given, and their answers come back in it.

Rules:
- All commands of one turn of the event loop go out in one write, over one connection.
- A server that is silent to a command for `deadline_s` ends the connection, with all that wait on it: behind that
  command nothing can be answered.
- The connection opens with the first command, and with the first one after it ended. Where it leads is looked up each
  time.
- A command decides by itself what an error or an ended connection means for it: it may go out again, over this socket
  or another.

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
    """Redis did not answer in time, or so many commands wait that this one could not."""


class SocketLost(Exception):
    """The connection ended, or never came to be."""


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
        """When it was given to its socket."""

    def answered(self, value: Any, now: float) -> None:
        """Take the answer."""
        if not self.answer.done():
            self.answer.set_result(value)

    def held(self) -> None:
        """Learn that it waits where nobody keeps its deadline."""

    def refused(self, socket: "Socket", message: str) -> None:
        """Take an error for an answer."""
        self.lost(ErrorReply(message))

    def lost(self, fault: Exception) -> None:
        """Learn that no answer will come."""
        if not self.answer.done():
            self.answer.set_exception(fault)


class Socket:
    """
    Calls to the server at the place that `locate` tells: `socket.send(command)`, `await socket.ask("PING")`.

    `greeting` are the commands that a connection begins with; `primary` leaves a server that turns out to be a replica.
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
        self._connection: _Connection | None = None
        self._queue: list[Command] = []
        self._opening: asyncio.Task[None] | None = None
        self.place: Node | None = None
        """Where it led last."""

    def send(self, command: Command) -> None:
        """Send a command; it learns by itself what became of it."""
        if self._connection is not None:
            self._connection.send(command)
            return
        if len(self._queue) >= WAITING_MAX:
            command.lost(ServerSilent(f"{WAITING_MAX} commands wait already"))
            return
        self._queue.append(command)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    def ask(self, *words: Word) -> asyncio.Future[Any]:
        """
        Send a command, once; return its answer to come, text as `str`.

        Raises: ServerSilent, SocketLost, ErrorReply, when it is awaited.
        """
        command = _plain(words)
        self.send(command)
        return command.answer

    async def relocate(self) -> None:
        """Leave a server that is no longer the right one; stay where nobody can tell."""
        with suppress(SocketLost, ServerSilent, ErrorReply):
            place = await self._locate()
            if self._connection is not None and place != self.place:
                self.leave(SocketLost(f"{self.place} is the primary no longer"))

    def leave(self, fault: Exception) -> None:
        """End the connection; the next command opens another."""
        if self._connection is not None:
            self._connection.close(fault)

    @property
    def idle(self) -> bool:
        """Whether nobody waits on it."""
        return not self._queue and (self._connection is None or not self._connection.waiting)

    async def close(self) -> None:
        """End it for good; who waits is told."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        fault = SocketLost("nobody asks any more")
        self._give_back(fault)
        self.leave(fault)

    async def _open(self) -> None:
        fault: Exception
        try:
            async with asyncio.timeout(self._deadline_s):
                connection = await self._met()
        except OSError as error:  # a TimeoutError is one
            fault = SocketLost(str(error) or type(error).__name__)
            fault.__cause__ = error
        except (ServerSilent, SocketLost, ErrorReply) as error:
            fault = error
        else:
            self._opening = None
            self._connection = connection
            queue, self._queue = self._queue, []
            for command in queue:
                if not command.answer.done():
                    connection.send(command)
            return
        self._opening = None
        self._give_back(fault)

    async def _met(self) -> "_Connection":
        """Return a connection to the server that is the right one by now."""
        while True:
            self.place = await self._locate()
            connection = await self._dial(self.place)
            try:
                for words in self._greeting:
                    await connection.ask(words)
                if not self._primary or (await connection.ask(("ROLE",)))[0] == "master":
                    return connection
            except BaseException:
                connection.close(SocketLost("it was not greeted"))
                raise
            connection.close(SocketLost("it is a replica"))
            await asyncio.sleep(PAUSE_S)

    async def _dial(self, place: Node) -> "_Connection":
        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(self, self._deadline_s)

        if place.port == 0:
            return (await loop.create_unix_connection(connection, place.host))[1]
        return (await loop.create_connection(connection, place.host, place.port, ssl=self._tls))[1]

    def _give_back(self, fault: Exception) -> None:
        queue, self._queue = self._queue, []
        for command in queue:
            command.lost(fault)

    def ended(self, connection: "_Connection") -> None:
        """Learn that a connection ended, before its commands do."""
        if self._connection is connection:
            self._connection = None


class _Connection(asyncio.Protocol):
    def __init__(self, socket: Socket, deadline_s: float) -> None:
        self._socket = socket
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(encoding="utf-8", notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.waiting: deque[Command] = deque()

    def send(self, command: Command) -> None:
        if self._closed:
            command.lost(SocketLost("the connection is closed"))
            return
        if len(self.waiting) >= WAITING_MAX:
            command.lost(ServerSilent(f"{WAITING_MAX} commands wait already"))
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(command.packed)
        self.waiting.append(command)
        if self._timer is None:
            self._timer = self._loop.call_later(self._left_s(command), self._look_at_the_clock)

    def ask(self, words: tuple[Word, ...]) -> asyncio.Future[Any]:
        command = _plain(words)
        self.send(command)
        return command.answer

    def close(self, fault: Exception) -> None:
        if self._closed:
            return
        self._closed = True
        self._socket.ended(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._outgoing.clear()
        waiting, self.waiting = self.waiting, deque()
        for command in waiting:
            command.lost(fault)

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def _look_at_the_clock(self) -> None:
        """Look at the oldest command; one timer serves all, as often as the deadline passes."""
        self._timer = None
        if not self.waiting:
            return
        left_s = self._left_s(self.waiting[0])
        if left_s <= 0:
            self.close(ServerSilent(f"no answer within {self._deadline_s:g} s"))
        else:
            self._timer = self._loop.call_later(left_s, self._look_at_the_clock)

    def _left_s(self, command: Command) -> float:
        return command.since + self._deadline_s - monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, waiting, now = self._reader, self.waiting, monotonic()
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _INCOMPLETE:
                command = waiting.popleft()
                if isinstance(answer, hiredis.ReplyError):
                    command.refused(self._socket, str(answer))
                    if self._closed:
                        break
                else:
                    command.answered(answer, now)
        except (hiredis.ProtocolError, IndexError, UnicodeDecodeError) as error:
            self.close(SocketLost(f"not what Redis sends: {type(error).__name__}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(SocketLost(str(exc) if exc else "the connection ended"))


def packed(words: tuple[Word, ...]) -> bytes:
    """Return a command as it travels."""
    return hiredis.pack_command(words)  # type: ignore[arg-type, no-any-return]  # its stub means one word


def _plain(words: tuple[Word, ...]) -> Command:
    return Command(asyncio.get_running_loop().create_future(), packed(words))


_INCOMPLETE = object()
