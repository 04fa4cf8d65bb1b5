"""
The line to a replica: one request out, one response in, and every fault as one of `engine.faults`.

Decision: httpx's transport is called without its client layer, because that layer costs more than all of the gateway's
own work and adds nothing here (no redirects, no cookies, no content decoding). Nothing else imports httpx, so that a
faster transport changes this file alone.

Rules:
- Connections idle longer than vLLM keeps them (5 s) are never used again.
- One that the replica closed all the same (a restart, an idle close that crossed our request) is replaced by a fresh
  one, once, if no head of an answer came. Nobody pays twice: what such an attempt cost, if anything, no one learns.
- Leaving a response's block before its end closes the connection, which is how vLLM learns that a request is aborted.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import httpx

from engine.faults import ConnectFailed, ResponseTooLarge, UpstreamBroken, UpstreamFault, UpstreamTimeout

KEEPALIVE_S = 4.0
_CONNECTIONS_MAX = 20_000
_RECEIVE_BYTES = 131_072
"""The kernel's buffer of a connection. The event loop takes all of it at once, so it bounds what a client that does not
read its stream costs in memory; left to the kernel, it grows to megabytes."""

Sent = Callable[[], None]
"""Called as a request's first byte is written."""


class UpstreamResponse(Protocol):
    """A response whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raise `UpstreamFault`."""

    async def read(self, bytes_max: int) -> bytes:
        """Return the whole body; raise `UpstreamFault`, `ResponseTooLarge` past `bytes_max`."""


class Upstream(Protocol):
    """Something that can send a request to a replica."""

    @asynccontextmanager
    def request(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes = b"", sent: Sent = lambda: None
    ) -> AsyncIterator[UpstreamResponse]:
        """
        Send one request; the block holds the connection. Raises `UpstreamFault`.

        `sent` is called as its first byte is written: from then on the replica may work for it.
        """


@dataclass(frozen=True, slots=True)
class _Response:
    raw: httpx.Response

    @property
    def status(self) -> int:
        return self.raw.status_code

    async def chunks(self) -> AsyncIterator[bytes]:
        assert isinstance(self.raw.stream, httpx.AsyncByteStream)
        try:
            async for chunk in self.raw.stream:
                yield chunk
        except httpx.TransportError as error:
            raise _mapped(error) from error

    async def read(self, bytes_max: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > bytes_max:
                raise ResponseTooLarge(f"the answer is larger than {bytes_max} bytes")
            parts.append(chunk)
        return b"".join(parts)


class HttpxUpstream:
    """
    The stock transport: `httpx.AsyncHTTPTransport`.

    Units: `connect_s_max` bounds the connect; every later wait is bounded by whoever reads (`asyncio.timeout`).
    """

    def __init__(self, connect_s_max: float) -> None:
        self._pooled = _transport(keepalive_max=_CONNECTIONS_MAX)
        self._fresh = _transport(keepalive_max=0)
        self._extensions = {"timeout": {"connect": connect_s_max, "pool": connect_s_max}}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pooled.aclose()
        await self._fresh.aclose()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes = b"", sent: Sent = lambda: None
    ) -> AsyncIterator[UpstreamResponse]:
        """Send one request; the block holds the connection. Raises `UpstreamFault`."""
        request = httpx.Request(method, url, headers=headers, content=body)
        try:
            try:
                response = await self._respond(self._pooled, request, sent)
            except _Stale:
                response = await self._respond(self._fresh, request, sent)
        except httpx.TransportError as error:
            raise _mapped(error) from error
        try:
            yield _Response(response)
        finally:
            await response.aclose()

    async def _respond(self, transport: httpx.AsyncHTTPTransport, request: httpx.Request, sent: Sent) -> httpx.Response:
        """Raises: httpx.TransportError; `_Stale` where a connection of earlier requests turned out to be closed."""
        fresh = False

        async def trace(event: str, _: object) -> None:
            nonlocal fresh
            if event == "connection.connect_tcp.started":
                fresh = True
            elif event == "http11.send_request_headers.started":
                sent()

        request.extensions = {**self._extensions, "trace": trace}
        try:
            return await transport.handle_async_request(request)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if transport is self._pooled and not fresh and _nothing_came(error):
                raise _Stale from error
            raise


class _Stale(Exception):
    """A kept connection was closed before the head of an answer came."""


def _transport(*, keepalive_max: int) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=_CONNECTIONS_MAX, max_keepalive_connections=keepalive_max, keepalive_expiry=KEEPALIVE_S
    )
    buffer = (socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return httpx.AsyncHTTPTransport(limits=limits, socket_options=[buffer])


def _nothing_came(error: httpx.TransportError) -> bool:
    """Tell a connection that ended before a whole head from one that spoke no HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        return str(error).startswith("Server disconnected without sending a response")
    return isinstance(error, httpx.ReadError | httpx.WriteError)


def _mapped(error: httpx.TransportError) -> UpstreamFault:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return ConnectFailed(type(error).__name__)
        case httpx.TimeoutException():
            return UpstreamTimeout(type(error).__name__)
        case _:
            return UpstreamBroken(type(error).__name__)
