"""
The line to a replica: one request out, one response in, and every fault as one of `engine.faults`.

Decision: an httpx transport is called without httpx's client layer, because that layer costs more than all of the
gateway's own work and adds nothing here (no redirects, no cookies, no content decoding).

Leaving a response's block before its end closes the connection, which is how vLLM learns that a request is aborted.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Protocol, Self

import httpx

from engine.faults import ConnectFailed, ResponseTooLarge, UpstreamBroken, UpstreamFault, UpstreamTimeout
from engine.transport import Transport

KEEPALIVE_S = 4.0
"""vLLM closes a connection that was idle for 5 s."""
_CONNECTIONS_MAX = 20_000

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
    Replicas over an httpx transport; ours unless another is given.

    Units: `connect_s_max` bounds the connect; every later wait is bounded by whoever reads (`asyncio.timeout`).
    """

    def __init__(self, connect_s_max: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport or Transport(keepalive_s=KEEPALIVE_S, connections_max=_CONNECTIONS_MAX)
        self._timeout = {"connect": connect_s_max, "pool": connect_s_max}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: dict[str, str], body: bytes = b"", sent: Sent = lambda: None
    ) -> AsyncIterator[UpstreamResponse]:
        """Send one request; the block holds the connection. Raises `UpstreamFault`."""
        target = _target(url)
        lines = [
            (b"host", target.netloc),
            *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
            (b"content-length", b"%d" % len(body)),
        ]
        extensions = {"timeout": self._timeout, "sent": sent}
        request = httpx.Request(method, target, headers=lines, stream=httpx.ByteStream(body), extensions=extensions)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise _mapped(error) from error
        try:
            yield _Response(response)
        finally:
            await response.aclose()


@lru_cache(maxsize=4096)
def _target(url: str) -> httpx.URL:
    """Return a URL as httpx takes it, read once: there are few of them, the replicas' paths."""
    return httpx.URL(url)


def _mapped(error: httpx.TransportError) -> UpstreamFault:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return ConnectFailed(type(error).__name__)
        case httpx.TimeoutException():
            return UpstreamTimeout(type(error).__name__)
        case _:
            return UpstreamBroken(type(error).__name__)
