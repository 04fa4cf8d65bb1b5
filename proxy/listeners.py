"""
The two sockets people connect to, and the server behind them.

Rules: an address that cannot be had is one clear line, not a traceback; two servers share one event loop and neither
touches the process's signals, which belong to `app.py`.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import uvicorn
from litestar.types import ASGIApp

from proxy.edge.guard import Edge, GuardedHttp
from proxy.fatal import Fatal

_BACKLOG = 2048
_CUT_S_MAX = 10.0
"""For answers that were cut to say so and settle."""


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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise `AddressUnavailable`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressUnavailable(f"cannot listen on {host}:{port}: {reason}") from None


def url_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a URL that this machine can open."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class Drain:
    """How a listener stops. Units: seconds."""

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
        log_config=None,
        server_header=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=max(1, round(drain.s_max)),
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
        server.should_exit = True
        hurrying = asyncio.create_task(_hurried(server, drain.hurried))
        try:
            with suppress(asyncio.CancelledError):
                await serving
        finally:
            hurrying.cancel()
            await _cut(server.server_state.tasks)


async def _hurried(server: uvicorn.Server, hurried: asyncio.Event) -> None:
    await hurried.wait()
    server.force_exit = True


async def _cut(answers: set[asyncio.Task[None]]) -> None:
    """End what outlasted the drain, and wait until it has told its client and settled its bill."""
    running = set(answers)
    for answer in running:
        if not answer.cancelling():
            answer.cancel()
    if running:
        await asyncio.wait(running, timeout=_CUT_S_MAX)
