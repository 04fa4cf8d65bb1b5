"""
One HTTP exchange over ASGI: the body in, head and chunks out, and the moment at which the client leaves.

Rules: header fields in vLLM's order; `x-request-id` is echoed, or made up.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from engine.sim.rejection import Rejection
from engine.sim.wire import DONE

DROP = "tollway.sim.drop"
"""Name of the ASGI extension by which `engine.sim.server` lends its connection's `close`, and more of it."""


class HungUp(Exception):
    """The client left before its answer was complete."""


class SimExchange:
    """A request and the means to answer it."""

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        headers = dict(scope["headers"])
        self.path: str = scope["path"]
        self.content_type: str = headers.get(b"content-type", b"").decode("latin-1")
        self.body = b""
        self.id = ""
        self.dropped = False
        """Whether we closed the connection, not the client."""

        self.comes_again = False
        """Whether the next answer of this connection is this one once more, before its own."""
        self._said = b""
        """What then comes, as HTTP."""

        self._asked_id: bytes | None = headers.get(b"x-request-id")
        connection = scope.get("extensions", {}).get(DROP, {})
        self._drop: Callable[[], None] | None = connection.get("close")
        self._leave_behind: Callable[[bytes], None] | None = connection.get("leave_behind")
        self._receive = receive
        self._send = send

    def name(self, prefix: str) -> None:
        """Give the answer its id: the client's `X-Request-Id`, else a random one."""
        own = self._asked_id.decode("latin-1") if self._asked_id else os.urandom(8).hex()
        self.id = f"{prefix}-{own}"

    async def read_body(self) -> None:
        """
        Read the whole body.

        Raises: HungUp.
        """
        pieces, more = [], True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        self.body = b"".join(pieces)

    async def until_hung_up(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Do the work, or cancel it when the client leaves first.

        Raises: HungUp, after the work has been cleaned up.
        """
        working, gone = asyncio.create_task(work), asyncio.create_task(self.hung_up())
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise HungUp
            await working
        finally:
            for task in (working, gone):
                task.cancel()
            await asyncio.gather(working, gone, return_exceptions=True)

    async def hung_up(self) -> None:
        """Return when the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json(self, status: int, body: bytes, *, allow: str | None = None) -> None:
        """Answer with JSON."""
        await self.respond(status, body, [(b"content-type", b"application/json")], allow=allow)

    async def reject(self, rejection: Rejection) -> None:
        """Answer with an error: by its status, or in a stream that begins and ends with it."""
        if not rejection.in_band:
            await self.json(rejection.status, rejection.body())
            return
        await self.start_stream()
        await self.chunk(rejection.frame())
        await self.end_stream()

    async def respond(
        self, status: int, body: bytes, content: list[tuple[bytes, bytes]], *, allow: str | None = None
    ) -> None:
        """Answer in one piece."""
        head = [(b"allow", allow.encode())] if allow else []
        head += [(b"content-length", str(len(body)).encode()), *content, *self._common()]
        await self._begin(status, head)
        self._say(body, ends=True)
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        """Send the 200 head of an event stream."""
        head = [(b"content-type", b"text/event-stream; charset=utf-8"), *self._common()]
        await self._begin(200, head)

    async def chunk(self, frame: bytes) -> None:
        """Send one frame as one chunk."""
        self._say(b"%x\r\n%b\r\n" % (len(frame), frame))
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def end_stream(self) -> None:
        """Send `[DONE]` and the terminator."""
        await self.chunk(DONE)
        self._say(b"0\r\n\r\n", ends=True)
        await self._send({"type": "http.response.body", "body": b""})

    async def drop(self) -> None:
        """Close the connection as it is; without a server that lends its `close`, leave the answer unfinished."""
        self.dropped = True
        if self._drop is not None:
            self._drop()
            await asyncio.Event().wait()

    async def _begin(self, status: int, head: list[tuple[bytes, bytes]]) -> None:
        lines = b"".join(b"%b: %b\r\n" % field for field in head)
        chunked = b"" if b"content-length" in dict(head) else b"transfer-encoding: chunked\r\n"
        self._say(b"HTTP/1.1 %d \r\n%b%b\r\n" % (status, lines, chunked))
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    def _say(self, part: bytes, *, ends: bool = False) -> None:
        """Note a part of an answer that comes again."""
        if self.comes_again:
            self._said += part
        if self.comes_again and ends and self._leave_behind is not None:
            self._leave_behind(self._said)

    def _common(self) -> list[tuple[bytes, bytes]]:
        return [(b"vary", b"Origin"), (b"x-request-id", self._asked_id or os.urandom(16).hex().encode())]
