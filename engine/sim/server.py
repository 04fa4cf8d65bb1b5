"""
The process around a simulated replica: uvicorn, as vLLM is served, with one line on stdout when it listens.

SIGTERM and SIGINT end it as vLLM's default shutdown does: running answers end at once and cleanly, with `finish_reason`
"abort", usage and `[DONE]`.
"""

import asyncio
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.sim.app import Simulator
from engine.sim.config import SimConfig
from engine.sim.exchange import DROP

KEEP_ALIVE_S = 5
SHUTDOWN_S = 5


class Protocol(HttpToolsProtocol):
    """uvicorn's own protocol; it also lends its connection, for faults that drop it or leave something behind on it."""

    _left = b""

    def on_message_begin(self) -> None:
        """Offer the extension with each request; write what the one before has left behind."""
        super().on_message_begin()
        self.scope["extensions"] = {DROP: {"close": self.transport.close, "leave_behind": self._leave_behind}}
        left, self._left = self._left, b""
        if left:
            self.transport.write(left)

    def _leave_behind(self, answer: bytes) -> None:
        self._left = answer


class SimServer(uvicorn.Server):
    """A server that says when it listens and ends its answers before it stops."""

    def __init__(self, config: uvicorn.Config, simulator: Simulator, url: str) -> None:
        super().__init__(config)
        self._simulator = simulator
        self._url = url

    def leave(self) -> None:
        """Listen no more and close what is idle, as at a shutdown; what is open stays open."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        self._simulator.controls.leave = self.leave
        sys.stdout.write(f"ready {self._url}\n")
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End what runs and leave with exit status 0; uvicorn would raise the signal again."""
        del sig, frame
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Abort the running answers, let their last frames out, stop."""
        self._simulator.engine.abort()
        await super().shutdown(sockets)


def serve(config: SimConfig, host: str, port: int) -> None:
    """
    Run one replica until a signal ends it.

    Bounds: port 0 takes any free one; the line `ready http://host:port` on stdout names it.
    """
    listener = socket.create_server((host, port), backlog=2048, family=_family(host))
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listener.getsockname()[1]}"
    options: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None, "access_log": False}
    options |= {"log_level": "critical", "timeout_keep_alive": KEEP_ALIVE_S}
    options |= {"timeout_graceful_shutdown": SHUTDOWN_S}
    uv = uvicorn.Config("", http=Protocol, loop="uvloop", **options)

    async def main() -> None:
        simulator = Simulator(config)
        uv.app = simulator
        await SimServer(uv, simulator, url).serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uv.get_loop_factory()) as runner:
        runner.run(main())


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
