"""
The client's side of one exchange, over ASGI: its headers and body in, the answer out, and the news that it left.

Rules: every wait has a deadline; a body is bounded while it is read, not afterwards; a client that hangs up ends the
relay at once, because an ASGI server tells it to whoever calls `receive` and to nobody else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from litestar.types import HTTPScope, Receive, Send

from proxy.edge.bodies import Share
from proxy.errors import ApiError, Code, InvalidRequest

Headers = list[tuple[str, str]]

_JSON = "application/json"


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Downstream:
    """
    One client, waiting for one answer.

    Units: `write_s_max` bounds the wait for a client that does not read the end of its answer, in seconds.
    """

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, share: Share, *, write_s_max: float) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.address: str = (scope.get("client") or ("", 0))[0]
        """Who is at the other end of the connection: the client, or the proxy before the gateway."""
        self._headers = scope["headers"]
        self._receive = receive
        self._send = send
        self._share = share
        self._write_s_max = write_s_max
        self._head: tuple[int, Headers] = (500, [])
        self.started = False
        """Whether the head of the answer went out; from then on an error can only be told in-band."""
        self.finished = False
        self.left = False
        """Whether the client hung up."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        wanted = name.encode("latin-1")
        return next((value.decode("latin-1") for key, value in self._headers if key == wanted), None)

    def headers(self, name: str) -> list[str]:
        """Return all values of a header, by its lower-case name."""
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self._headers if key == wanted]

    async def read_body(self, *, bytes_max: int, s_max: float) -> bytes:
        """Return the whole request body; raise `ApiError` past a bound, `ClientGone` when the client leaves."""
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in self._headers):
            raise ApiError(Code.UNSUPPORTED_MEDIA_TYPE, "The request body must be sent without a Content-Encoding.")
        kind = (self.header("content-type") or _JSON).partition(";")[0].strip().lower()
        if kind != _JSON and not kind.endswith("+json"):
            raise InvalidRequest(f"The request body must be JSON: send it with `Content-Type: {_JSON}`.")
        declared = self.header("content-length")
        if declared is not None and declared.isdecimal() and int(declared) > bytes_max:
            raise _too_large(bytes_max)
        try:
            async with asyncio.timeout(s_max):
                return await self._read_body(bytes_max)
        except TimeoutError:
            message = f"The request body did not arrive within {s_max:g} seconds."
            raise ApiError(Code.REQUEST_TIMEOUT, message) from None

    async def _read_body(self, bytes_max: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = event.get("body", b"")  # type: ignore[assignment]
            size += len(part)
            if size > bytes_max:
                raise _too_large(bytes_max)
            self._share.take(len(part))
            parts.append(part)
            if not event.get("more_body", False):
                return b"".join(parts)

    @asynccontextmanager
    async def watched(self, part: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """
        Cut the block short with `ClientGone` when the client hangs up; the request body must have been read.

        `part()` is run in between, while the block goes on; a block that ends meanwhile ends it. Whoever drives it
        sees by `left` that its end is of no use to anybody. Bounds: `part` must have a deadline, and raise nothing.
        """
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        cut = False

        async def watch() -> None:
            nonlocal cut
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self.finished:
                self.left = True
                await part()
                cut = True
                task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await asyncio.sleep(0)  # a client that has left already is found out before anything is begun
            yield
        except asyncio.CancelledError:
            # As `asyncio.timeout` does: a cancellation of ours is taken back, anybody else's goes on.
            if cut and task.uncancel() <= cancelling:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    def head(self, status: int, headers: Headers) -> None:
        """Set the head of the answer; it goes out with the first part of the body."""
        self._head = status, headers

    async def send(self, body: bytes) -> None:
        """Send a part of the answer; waits while the client is slow to read, as long as the caller lets it."""
        await self._send_head()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the answer; raise `ClientGone` when the client does not take it."""
        self.finished = True
        try:
            async with asyncio.timeout(self._write_s_max):
                await self._send_head()
                await self._send({"type": "http.response.body", "body": body, "more_body": False})
        except TimeoutError:
            raise ClientGone from None

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer at once."""
        self.head(status, [*headers, ("content-length", str(len(body)))])
        await self.finish(body)

    async def _send_head(self) -> None:
        if self.started:
            return
        status, headers = self._head
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(Code.REQUEST_TOO_LARGE, f"The request body is larger than {bytes_max} bytes.")
