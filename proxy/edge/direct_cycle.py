"""
One direct cycle: a request that is served without ASGI, and its answer.

It stands where uvicorn's `RequestResponseCycle` stands for an application, and has the fields of it that uvicorn's
protocol sets. An application is told and tells by dictionaries, each a coroutine; this is told and tells by calls that
never wait, and only who has to waits.

Rules: head and first part go out in one write, and so does a whole answer; to a client that is gone nothing is
written, and nobody is told by that. Whoever serves a request and does not end its answer loses the connection.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

_log = logging.getLogger(__name__)

_CLOSE = b"connection: close\r\n"


class ClientTransport(Protocol):
    """Where a direct cycle writes its answer."""

    def write(self, data: bytes, /) -> None:
        """Write, without waiting."""

    def close(self) -> None:
        """End the connection once what was written is out."""


class ClientConnection(Protocol):
    """What a direct cycle needs of the connection that its request came on."""

    loop: asyncio.AbstractEventLoop
    flow: FlowControl
    """Whether the client is read, and whether it keeps up with what is written."""

    @property
    def transport(self) -> ClientTransport:
        """Where the answer is written."""

    def address_of(self, fields: Mapping[bytes, bytes]) -> str:
        """Return where the client of a request is, by its head's fields."""

    def default_lines(self) -> bytes:
        """Return the lines of every answer."""

    def drop(self) -> None:
        """End the connection now."""

    def on_response_complete(self) -> None:
        """Go on to the next request."""


class DirectCycle:
    """
    One request and its answer.

    Bounds: of a body that nobody takes no more is read than uvicorn's `HIGH_WATER_LIMIT` and one read of the socket.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_invited",
        "_news",
        "_serve",
        "_tell",
        "_write",
        "disconnected",
        "fields",
        "keep_alive",
        "loop",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        connection: ClientConnection,
        serve: "Serve",
        fields: Mapping[bytes, bytes],
        *,
        chunked: bool,
    ) -> None:
        """Take a request, whose client takes an answer in chunks or only to the connection's end."""
        self.fields = fields
        """The first value of each header, by its lower-case name."""
        self.loop = connection.loop
        self.disconnected = False
        """Whether the client is gone."""
        self.keep_alive = False
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self._connection = connection
        self._write = connection.transport.write
        self._serve = serve
        self._chunked = chunked
        self._body: bytes | bytearray = b""
        """As it came where it came at once, as it nearly always does."""
        self._invited = False
        """Whether the client knows that its body is waited for."""
        self._news: asyncio.Future[None] | None = None
        self._tell: Callable[[], None] | None = None

    async def run(self) -> None:
        """Serve the request to its end."""
        try:
            await self._serve(self)
        except Exception:  # noqa: BLE001 (whoever serves tells its own faults; one that it missed ends here)
            _log.exception("request_failed")
        finally:
            if not (self.response_complete or self.disconnected):
                self._connection.drop()

    # --- what uvicorn's protocol and the guard do with it

    @property
    def message_event(self) -> "DirectCycle":
        """What uvicorn's protocol sets when something has happened."""
        return self

    def set(self) -> None:
        """Wake who waits for the body, and tell of a client that is gone."""
        news, tell = self._news, self._tell
        if news is not None and not news.done():
            news.set_result(None)
        if self.disconnected and tell is not None:
            self._tell = None
            tell()

    def arrived(self, body: bytes) -> None:
        """Take in a part of the body."""
        if self.response_complete:
            return
        if self._body:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        else:
            self._body = body
        if len(self._body) > HIGH_WATER_LIMIT:
            self._connection.flow.pause_reading()
        if self._news is not None:
            self.set()

    def arrived_whole(self, *, keep_alive: bool) -> None:
        """Note that the body has ended; an answer that was begun before is its connection's last."""
        self.more_body = False
        if not self.response_started:
            self.keep_alive = keep_alive
        if self._news is not None:
            self.set()

    # --- what who serves it does with it

    @property
    def address(self) -> str:
        """Where the client is: at the other end of the connection, or where a trusted proxy says."""
        return self._connection.address_of(self.fields)

    def take(self) -> bytes:
        """Return what has come of the body since the last time; `more_body` tells whether that was the end of it."""
        body, self._body = self._body, b""
        self._connection.flow.resume_reading()
        return bytes(body)

    async def news(self) -> None:
        """Wait until more of the body has come, or the client is gone."""
        if self._body or not self.more_body or self.disconnected:
            return
        if not self._invited:
            self._invited = True
            if self.fields.get(b"expect", b"").lower() == b"100-continue":
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._news = self.loop.create_future()
        try:
            await self._news
        finally:
            self._news = None

    def on_gone(self, tell: Callable[[], None] | None) -> None:
        """Call `tell` when the client is gone, and nobody for None."""
        self._tell = tell
        if tell is not None:
            self._connection.flow.resume_reading()  # of a connection that is not read nobody learns that it ended

    def begin(self, status: int, fields: bytes, body: bytes, length: int | None = None) -> None:
        """Write the head and the first part of an answer that goes on; its `length` is told where it is known."""
        if self.disconnected:
            return
        self.response_started = True
        coding = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if length is not None:
            self._chunked, coding = False, b"content-length: %d\r\n" % length
        close = b"" if self.keep_alive else _CLOSE
        default = self._connection.default_lines()
        self._write(b"".join((STATUS_LINE[status], default, fields, close, coding, b"\r\n", self._framed(body))))

    def write(self, body: bytes) -> None:
        """Write another part."""
        if body and not self.disconnected:
            self._write(self._framed(body))

    def finish(self, body: bytes) -> None:
        """Write the last part of an answer that was begun."""
        if not self.disconnected:
            self._write(self._framed(body) + b"0\r\n\r\n" if self._chunked else body)
            self._complete()

    def reply(self, status: int, fields: bytes, body: bytes) -> None:
        """Write a whole answer."""
        if self.disconnected:
            return
        self.response_started = True
        close = b"" if self.keep_alive else _CLOSE
        length = b"content-length: %d\r\n\r\n" % len(body)
        default = self._connection.default_lines()
        self._write(b"".join((STATUS_LINE[status], default, fields, close, length, body)))
        self._complete()

    @property
    def writable(self) -> bool:
        """Whether the client keeps up; where it does not, a writer waits for `drained`."""
        return not self._connection.flow.write_paused

    async def drained(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""
        await self._connection.flow.drain()

    def drop(self) -> None:
        """End the connection now: the client is gone."""
        self._connection.drop()

    def _framed(self, body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if body and self._chunked else body

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.transport.close()
        self._connection.on_response_complete()


Serve = Callable[[DirectCycle], Coroutine[Any, Any, None]]
