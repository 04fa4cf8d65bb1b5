"""
The two sockets people connect to, and the server behind them.

Rules: an address that cannot be had is one clear line, not a traceback; two servers share one event loop and neither
touches the process's signals, which belong to `app.py`.
"""

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import uvicorn
from litestar.types import ASGIApp
from uvicorn.server import ServerState

from proxy.edge.edge import Edge
from proxy.edge.guard import GuardedHttp
from proxy.fatal import Fatal

_BACKLOG = 2048
_TELL_S_MAX = 3.0
"""For clients of answers that were cut to take the news."""
_SETTLE_S_MAX = 10.0
"""For answers whose clients are gone to settle."""
_POLL_S = 0.02
_LET_IN_S_MAX = 2.0
"""For those who have connected already to be let in: the event loop takes one at a turn."""


class AddressUnavailable(Fatal):
    """The address cannot be listened on."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, once everyone is in who has connected: closing the socket resets whoever waits behind it."""
        await _let_in(sockets or [])
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise `AddressUnavailable`."""
    with _unavailable(host, port):
        return socket.create_server((host, port), family=_family(host), backlog=_BACKLOG)


def reserved(host: str, port: int) -> socket.socket:
    """
    Return a socket that keeps an address for processes of ours, which bind it `beside` this one, and takes nobody in.

    It is shared only once it is ours: asked for as a shared one, an address that another gateway's workers listen on
    would be had, and each would get half of the other's clients. Only two that start at once do not see each other.

    Raises: AddressUnavailable.
    """
    keeping = _taken(host, port, shared=False)
    keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return keeping


def beside(host: str, port: int) -> socket.socket:
    """Return a socket for a reserved address; nobody is let in before it is served on. Raises as `reserved`."""
    return _taken(host, port, shared=True)


def _taken(host: str, port: int, *, shared: bool) -> socket.socket:
    with _unavailable(host, port), ExitStack() as failed:
        taken = failed.enter_context(socket.socket(_family(host)))
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if taken.family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, port))
        failed.pop_all()
        return taken


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def _unavailable(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressUnavailable(f"cannot listen on {host}:{port}: {reason}") from None


def url_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a URL that this machine can open."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


@dataclass(slots=True)
class Drain:
    """How a listener stops, as it is known when it does. Units: seconds."""

    s_max: float
    """For running answers to end."""
    notice_s: float = 0.0
    """Served on after `/health/ready` has begun to say no."""
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether waiting is over: whoever stops the gateway asked a second time."""


@asynccontextmanager
async def served(
    app: ASGIApp, listening: socket.socket, edge: Edge, *, drain: Drain, keep_alive_s: float = 75
) -> AsyncIterator[None]:
    """Serve `app` for the block; on leaving it, running answers have the drain's time to end, then they are cut."""
    config = uvicorn.Config(
        app,
        http=partial(GuardedHttp, edge=edge),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await server.up.wait()
        yield
    finally:
        edge.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(drain.notice_s):
                await drain.hurried.wait()
        config.timeout_graceful_shutdown = max(1, round(drain.s_max))
        server.should_exit = True
        hurrying = asyncio.create_task(_hurried(server, drain.hurried))
        try:
            with suppress(asyncio.CancelledError):
                await serving
        finally:
            hurrying.cancel()
            await _cut(server.server_state)


async def _let_in(sockets: list[socket.socket]) -> None:
    waiting = select.poll()
    for listening in sockets:
        waiting.register(listening, select.POLLIN)
    with suppress(TimeoutError):
        async with asyncio.timeout(_LET_IN_S_MAX):
            while waiting.poll(0):  # noqa: ASYNC110 - accepting is the event loop's, and it tells nobody
                await asyncio.sleep(0)


async def _hurried(server: uvicorn.Server, hurried: asyncio.Event) -> None:
    await hurried.wait()
    server.force_exit = True


async def _cut(state: ServerState) -> None:
    """
    End what outlasted the drain, and wait until it has told its client and settled its bill.

    A client that does not take the news is dropped.
    """
    for answer in set(state.tasks):
        if not answer.cancelling():
            answer.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(_TELL_S_MAX):
            while state.tasks or state.connections:  # noqa: ASYNC110 - uvicorn's sets, which it watches so itself
                await asyncio.sleep(_POLL_S)
    for connection in tuple(state.connections):
        assert isinstance(connection, GuardedHttp)
        connection.drop()
    if state.tasks:
        await asyncio.wait(set(state.tasks), timeout=_SETTLE_S_MAX)
