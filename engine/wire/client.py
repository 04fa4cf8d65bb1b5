"""
The line to a replica: one request out, one response in, and every fault as one of `engine.faults`.

Decision: our transport is asked with bytes.
Because: httpx's client layer costs as much as all of the gateway's own work, its `Request` and `Response` a tenth of
it, and they add nothing here (no redirects, no cookies, no content decoding).
Instead of: httpx's interface for transports.

Leaving a response's block before its end closes the connection, which is how vLLM learns that a request is aborted.
"""

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import httpx

from engine.faults import (
    ConnectFailed,
    ForeignAnswer,
    ResponseTooLarge,
    TlsFailed,
    UpstreamBroken,
    UpstreamFault,
    UpstreamTimeout,
)
from engine.wire.connection import Take, UpstreamConnection
from engine.wire.credentials import NONE, Credentials
from engine.wire.transport import Destination, Sent, Transport, unheard

KEEPALIVE_S = 4.0
"""vLLM closes a connection that was idle for 5 s."""
_CONNECTIONS_MAX = 20_000
_SMALL_BYTES_MAX = 16 * 1024
"""Parts of a body up to here are put together."""

JSON = b"content-type: application/json\r\n"
"""The field of a request with a body."""


class UpstreamResponse(Protocol):
    """A response whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    async def pour(self, take: Take) -> None:
        """
        Hand the body to `take` as it arrives; raise `UpstreamFault`, and what `take` raises.

        `take` is called by the socket that has something, while this task sleeps: it must be quick. What it cannot
        get rid of quickly enough it returns a wait for, and is given no more before that is over.
        """

    async def read(self, bytes_max: int) -> bytes:
        """Return the whole body; raise `UpstreamFault`, `ResponseTooLarge` past `bytes_max`."""


class Upstream(Protocol):
    """Something that can send a request to a replica."""

    def request(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = NONE,
        fields: bytes = b"",
        body: bytes = b"",
        sent: Sent = unheard,
    ) -> AbstractAsyncContextManager[UpstreamResponse]:
        """
        Send one request; the block holds the connection. Raises `UpstreamFault`.

        `fields` are the head's own, each a line; where it goes, who asks and how long it is are told with them.
        `sent` is called as its first byte is written: from then on the replica may work for it.
        """


class DirectUpstream:
    """
    Replicas over our own transport.

    Units: `connect_s_max` bounds the connect, and may be changed for those to come; every later wait is bounded by
    whoever reads (`asyncio.timeout`).
    """

    def __init__(self, connect_s_max: float, transport: Transport | None = None) -> None:
        self._transport = transport or Transport(keepalive_s=KEEPALIVE_S, connections_max=_CONNECTIONS_MAX)
        self.connect_s_max = connect_s_max

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    def request(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = NONE,
        fields: bytes = b"",
        body: bytes = b"",
        sent: Sent = unheard,
    ) -> "_Exchange":
        """Send one request; the block holds the connection. Raises `UpstreamFault`."""
        target = _target(method, url, credentials)
        request = b"%b%bcontent-length: %d\r\n\r\n%b" % (target.head, fields, len(body), body)
        return _Exchange(self._transport, target.destination, request, connect_s_max=self.connect_s_max, sent=sent)


class _Exchange:
    """One request, and its response within the block."""

    __slots__ = ("_connect_s_max", "_connection", "_destination", "_request", "_sent", "_transport", "status")

    _connection: UpstreamConnection

    def __init__(
        self, transport: Transport, destination: Destination, request: bytes, *, connect_s_max: float, sent: Sent
    ) -> None:
        self._transport = transport
        self._destination = destination
        self._request = request
        self._connect_s_max = connect_s_max
        self._sent = sent
        self.status = 0

    async def __aenter__(self) -> Self:
        try:
            self._connection = await self._transport.ask(
                self._destination, self._request, connect_s_max=self._connect_s_max, sent=self._sent
            )
        except httpx.TransportError as error:
            raise fault_of(error) from error
        self.status = self._connection.status
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ForeignAnswer):
            self._connection.close()
        self._transport.leave(self._connection, self._destination)

    async def pour(self, take: Take) -> None:
        """Hand the body to `take` as it arrives; raise `UpstreamFault`, and what `take` raises."""
        try:
            await self._connection.pour(take)
        except httpx.TransportError as error:
            raise fault_of(error) from error

    async def read(self, bytes_max: int) -> bytes:
        """Return the whole body; raise `UpstreamFault`, `ResponseTooLarge` past `bytes_max`."""
        return await read_whole(self, bytes_max)


def _any_size(size: int) -> bool:
    return True


async def read_parts(
    response: UpstreamResponse, bytes_max: int, room: Callable[[int], bool] = _any_size
) -> list[bytes]:
    """
    Return the body of a response in parts, of which small ones are put together; raise likewise.

    `room` is asked whether there is any for a body of so many bytes. Large parts stay as they are: to put them together
    costs as much as to read them, and takes their memory twice.
    """
    parts: list[bytes] = []
    size = 0

    def take(part: bytes) -> None:
        nonlocal size
        size += len(part)
        if size > bytes_max:
            raise ResponseTooLarge(f"the answer is larger than {bytes_max} bytes")
        if not room(size):
            raise ResponseTooLarge("there is no room for the rest of the answer")
        if parts and len(parts[-1]) + len(part) <= _SMALL_BYTES_MAX:
            parts[-1] += part
        else:
            parts.append(part)

    await response.pour(take)
    return parts


async def read_whole(response: UpstreamResponse, bytes_max: int) -> bytes:
    """Return the body of a response; raise `UpstreamFault`, `ResponseTooLarge` past `bytes_max`."""
    return b"".join(await read_parts(response, bytes_max))


class _Target(NamedTuple):
    """Where a request goes, and how it begins."""

    destination: Destination
    head: bytes


@lru_cache(maxsize=4096)
def _target(method: str, url: str, credentials: Credentials) -> _Target:
    """Return what a URL means, read once: there are few of them, the replicas' paths."""
    read = httpx.URL(url)
    tls = credentials.context() if read.scheme == "https" else None
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b" % (method.encode(), read.raw_path, read.netloc, credentials.fields)
    return _Target(Destination(read.host, read.port or (443 if tls else 80), tls), head)


def fault_of(error: httpx.TransportError) -> UpstreamFault:
    """
    Return what an error of a transport is called here.

    Of its text goes on why there is no connection: it is the system's or OpenSSL's, and no byte of anybody's request.
    """
    match error:
        case httpx.ConnectError(__cause__=ssl.SSLError()):
            return TlsFailed(str(error))
        case httpx.ConnectError(__cause__=OSError()):
            return ConnectFailed(str(error))
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return ConnectFailed(type(error).__name__)
        case httpx.TimeoutException():
            return UpstreamTimeout(type(error).__name__)
        case _:
            return UpstreamBroken(type(error).__name__)
