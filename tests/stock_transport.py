"""httpx's own transport, held to the same as ours: slow, and right. And an upstream over any transport of httpx's."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from engine.wire.client import UpstreamResponse, fault_of, read_whole
from engine.wire.connection import Take
from engine.wire.credentials import NONE, Credentials
from engine.wire.transport import Sent, unheard

_RECEIVE_BYTES = 131_072
_CONNECTIONS_MAX = 1_000


class StockTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncHTTPTransport` that tells when a request is sent, and replaces a kept connection that was closed."""

    def __init__(self, keepalive_s: float) -> None:
        self._pooled = _stock(keepalive_s, keepalive_max=_CONNECTIONS_MAX)
        self._fresh = _stock(keepalive_s, keepalive_max=0)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pooled.aclose()
        await self._fresh.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer; raise `httpx.TransportError`."""
        connected = False
        sent = request.extensions["sent"]

        async def trace(event: str, _: object) -> None:
            nonlocal connected
            connected = connected or event == "connection.connect_tcp.started"
            if event == "http11.send_request_headers.started":
                sent()

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return await self._pooled.handle_async_request(request)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if connected or not _nothing_came(error):
                raise
        return await self._fresh.handle_async_request(request)


def _stock(keepalive_s: float, *, keepalive_max: int) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=_CONNECTIONS_MAX, max_keepalive_connections=keepalive_max, keepalive_expiry=keepalive_s
    )
    buffer = (socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return httpx.AsyncHTTPTransport(limits=limits, socket_options=[buffer])


def _nothing_came(error: httpx.TransportError) -> bool:
    """Tell a connection that ended before a whole head from one that spoke no HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        return str(error).startswith("Server disconnected without sending a response")
    return isinstance(error, httpx.ReadError | httpx.WriteError)


@dataclass(frozen=True, slots=True)
class _Response:
    raw: httpx.Response

    @property
    def status(self) -> int:
        return self.raw.status_code

    async def pour(self, take: Take) -> None:
        assert isinstance(self.raw.stream, httpx.AsyncByteStream)
        try:
            async for part in self.raw.stream:
                if (wait := take(part)) is not None:
                    await wait()
        except httpx.TransportError as error:
            raise fault_of(error) from error

    async def read(self, bytes_max: int) -> bytes:
        return await read_whole(self, bytes_max)


class HttpxUpstream:
    """Replicas over any httpx transport, called as httpx calls it."""

    def __init__(self, connect_s_max: float, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._timeout = {"connect": connect_s_max, "pool": connect_s_max}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = NONE,
        fields: bytes = b"",
        body: bytes = b"",
        sent: Sent = unheard,
    ) -> AsyncIterator[UpstreamResponse]:
        """Send one request; the block holds the connection. Raises `UpstreamFault`."""
        target = httpx.URL(url)
        lines = [
            (b"host", target.netloc),
            *((name, value) for name, _, value in (line.partition(b": ") for line in fields.split(b"\r\n")[:-1])),
            (b"content-length", b"%d" % len(body)),
        ]
        extensions = {"timeout": self._timeout, "sent": sent}
        request = httpx.Request(method, target, headers=lines, stream=httpx.ByteStream(body), extensions=extensions)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise fault_of(error) from error
        try:
            yield _Response(response)
        finally:
            await response.aclose()
