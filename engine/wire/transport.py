"""
The connections to replicas, over asyncio and httptools: HTTP/1.1, and nothing that they do not need.

Rules:
- A connection goes back to the pool only when its answer was read to the end and the replica keeps it. It leaves it
  only while nothing has come on it since, not even what the event loop has not read yet.
- One that lay idle for `keepalive_s` is closed and never used.
- A kept connection that ends before a byte of the answer came is replaced by a fresh one, once: an idle close that
  crossed our request. Nobody pays twice: what such an attempt cost, if anything, no one learns.
- Leaving a connection before the end of its answer closes it, which is how vLLM learns that a request is aborted.
- With TLS a connection is open once both sides have proven who they are: a replica for the host that leads to it.

Decision: a transport of our own, whose faults are httpx's.
Because: httpcore looks at all of its connections for each request, 1,800 µs of them at 64 connections.
Instead of: httpx's stock one, which is held to the same tests as this; aiohttp, which costs twice as much.
"""

import asyncio
import os
import socket
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

import httpx

from engine.wire.connection import UpstreamConnection, fault_of_tls

_RECEIVE_BYTES = 65_536
"""The kernel's buffer of a connection. The event loop takes all of it at once, so it bounds what a client that does not
read its stream costs in memory; left to the kernel, it grows to megabytes."""


class Destination(NamedTuple):
    """Where a connection leads; only between the same two may another request go over it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    """Who is trusted to be there, and what is shown to it; None speaks in clear text."""


Sent = Callable[[], None]
"""Called as a request's first byte is written."""


def unheard() -> None:
    """Care for nothing that is told."""


class Transport:
    """
    Connections to any number of replicas: `ask` for one, and `leave` it.

    Units: `keepalive_s` in seconds. Bounds: `connections_max` being opened or in use, one more raises `PoolTimeout`;
    idle ones were in use within `keepalive_s`.
    """

    def __init__(self, *, keepalive_s: float, connections_max: int) -> None:
        self._keepalive_s = keepalive_s
        self._connections_max = connections_max
        self._idle: defaultdict[Destination, deque[tuple[float, UpstreamConnection]]] = defaultdict(deque)
        self._used: set[UpstreamConnection] = set()
        self._opening = 0

    async def ask(
        self, destination: Destination, request: bytes, *, connect_s_max: float | None, sent: Sent
    ) -> UpstreamConnection:
        """
        Send a request and return its connection, on which the head of the answer has come; raise `TransportError`.

        Whoever gets it must `leave` it. `sent` is called as the first byte is written.
        """
        kept = self._kept(destination)
        if kept is not None:
            try:
                return await self._ask(kept, destination, request, sent)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if kept.heard:
                    raise
        return await self._ask(await self._connect(destination, connect_s_max), destination, request, sent)

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in [*self._used, *(each for idle in self._idle.values() for _, each in idle)]:
            connection.close()
        self._idle.clear()
        self._used.clear()

    def _kept(self, destination: Destination) -> UpstreamConnection | None:
        """Return the connection that was used last, if it may be used again; older ones are no better."""
        idle = self._idle.get(destination)
        now = time.monotonic()
        while idle:
            since, connection = idle.pop()
            if now - since >= self._keepalive_s:
                connection.close()
                for _, older in idle:
                    older.close()
                idle.clear()
            elif connection.usable:
                if connection.is_quiet:
                    return connection
                connection.close()
        return None

    async def _connect(self, destination: Destination, s_max: float | None) -> UpstreamConnection:
        if len(self._used) + self._opening >= self._connections_max:
            raise httpx.PoolTimeout("all connections are in use")
        self._sweep()
        self._opening += 1
        try:
            async with asyncio.timeout(s_max):
                return await _opened(destination)
        except ssl.SSLError as error:
            raise fault_of_tls(error) from error
        except TimeoutError:
            raise httpx.ConnectTimeout("the replica did not take the connection in time") from None
        except OSError as error:
            raise httpx.ConnectError(_words(error)) from error
        finally:
            self._opening -= 1

    def _sweep(self) -> None:
        """Close what has been idle for too long: where nobody asks any more, nobody else would look."""
        now = time.monotonic()
        for destination, idle in [*self._idle.items()]:
            while idle and (now - idle[0][0] >= self._keepalive_s or not idle[0][1].usable):
                idle.popleft()[1].close()
            if not idle:
                del self._idle[destination]

    async def _ask(
        self, connection: UpstreamConnection, destination: Destination, request: bytes, sent: Sent
    ) -> UpstreamConnection:
        self._used.add(connection)
        try:
            sent()
            connection.write(request)
            await connection.head()
        except BaseException:
            self.leave(connection, destination)
            raise
        return connection

    def leave(self, connection: UpstreamConnection, destination: Destination) -> None:
        """Take a connection back: for the next request, or to close it."""
        if connection not in self._used:
            return
        self._used.discard(connection)
        if connection.usable:
            idle = self._idle[destination]
            now = time.monotonic()
            idle.append((now, connection))
            while idle and (now - idle[0][0] >= self._keepalive_s or not idle[0][1].usable):
                idle.popleft()[1].close()
        else:
            connection.close()


async def _opened(destination: Destination) -> UpstreamConnection:
    """Connect to the first of the host's addresses that takes it; raise `OSError`."""
    loop = asyncio.get_running_loop()
    fault = OSError("the host has no address")
    found = await loop.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    for family, kind, proto, _, address in found:
        opened = socket.socket(family, kind, proto)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(opened, address)
            connection = await _begun(opened, destination)
        except OSError as error:
            opened.close()
            fault = error
        except BaseException:
            opened.close()
            raise
        else:
            return connection
    raise fault


async def _begun(opened: socket.socket, destination: Destination) -> UpstreamConnection:
    """Return the connection over a socket that is open, with TLS where that is spoken; raise `OSError`."""
    loop, tls = asyncio.get_running_loop(), destination.tls
    host = destination.host if tls else None
    try:
        return (await loop.create_connection(UpstreamConnection, sock=opened, ssl=tls, server_hostname=host))[1]
    except ssl.SSLError:
        raise
    except OSError as error:
        if tls:
            raise ssl.SSLError(error.errno, "the replica ended the handshake") from error
        raise


def _words(error: OSError) -> str:
    """Return the system's words for an error; those of a loop differ, and hold addresses."""
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
