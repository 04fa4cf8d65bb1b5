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

import uvicorn
from litestar import Litestar

from proxy.fatal import Fatal

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


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


@asynccontextmanager
async def served(app: Litestar, listening: socket.socket, *, drain_s_max: float) -> AsyncIterator[None]:
    """Serve `app` for the block; on leaving it, running answers have `drain_s_max` seconds to end."""
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s_max)),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await server.up.wait()
        yield
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await serving
