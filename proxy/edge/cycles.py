"""
The requests of one connection in their order: one is answered, those behind it wait.

A request is a cycle: uvicorn's own where an application answers it, else a direct one, of which uvicorn's protocol sets
the same fields. That protocol keeps the last one read in `cycle`, and those that wait in `pipeline`, the latest on the
left.

Rule: what the edge relies on and uvicorn does not promise is used here and in `guard.py` alone;
`tests/integration/test_guard.py` names all of it and holds it against the installed version.
"""

import asyncio
from collections import deque
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy.edge.direct_cycle import DirectCycle
from proxy.edge.head import Head
from proxy.edge.parser import Arriving
from proxy.errors import InvalidRequest

_PIPELINED_MAX = 16
"""Requests waiting behind the one being answered."""

Cycle = RequestResponseCycle | DirectCycle


class CyclesInOrder(HttpToolsProtocol):
    """
    What is answered on a connection, and what waits.

    Bounds: `_PIPELINED_MAX` requests ahead of their answers, and of them no more than uvicorn's `HIGH_WATER_LIMIT` and
    one read of the socket.
    Source: uvicorn/protocols/http/httptools_impl.py.
    """

    cycle: Cycle | None  # type: ignore[assignment]
    pipeline: deque[tuple[Cycle, Any]]  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.running: Cycle | None = None
        """What is answered, or was last."""
        self._ahead_bytes = 0
        """Read while an answer runs that others wait behind."""

    @property
    def answering(self) -> bool:
        """Whether somebody waits for an answer that is on its way."""
        running = self.running
        return running is not None and not running.response_complete and not running.disconnected

    def arriving(self) -> Cycle | None:
        """Return the request whose body is still coming."""
        cycle = self.cycle
        return cycle if cycle is not None and cycle.more_body else None

    def begin_asgi(self, head: Head, llhttp: Any) -> Arriving:
        """Let the application answer a request once those before it are answered."""
        if self.pipeline:
            self._bound_waiting()
        self.parser = llhttp
        super().on_message_begin()
        self.url = head.target
        self.headers += head.fields
        self.expect_100_continue = head.by_name.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()
        return _Asked(self)

    def begin_direct(self, cycle: DirectCycle) -> Arriving:
        """Do for a direct cycle what uvicorn's `on_headers_complete` does for an application."""
        if self.pipeline:
            self._bound_waiting()
        before, self.cycle = self.cycle, cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, None))
        return cycle

    def _bound_waiting(self) -> None:
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise InvalidRequest(f"More than {_PIPELINED_MAX} requests are pipelined.")

    def _start_asgi_task(self, cycle: Cycle, app: Any) -> None:
        self.running = cycle
        if isinstance(cycle, DirectCycle):
            task = self.loop.create_task(cycle.run())
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        else:
            super()._start_asgi_task(cycle, app)

    def read_ahead(self, size: int) -> None:
        """Read on behind a running answer, for little: of a connection that is not read nobody leaves."""
        self._ahead_bytes += size
        if self._ahead_bytes <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    def answer_next(self) -> None:
        """Answer the request that waits."""
        self._ahead_bytes = 0
        self._start_asgi_task(*self.pipeline.pop())

    def withdraw(self, cycle: Cycle) -> None:
        """Take back a request that cannot be read to its end."""
        _disconnect(cycle)
        self.pipeline = deque(each for each in self.pipeline if each[0] is not cycle)

    def disconnect(self) -> None:
        """Tell every request that its client is gone."""
        for cycle in (self.running, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                _disconnect(cycle)
        self.pipeline.clear()
        self.cycle = self.running = None


class _Asked:
    """What an application is asked: its body goes uvicorn's way."""

    def __init__(self, protocol: CyclesInOrder) -> None:
        cycle = protocol.cycle
        assert cycle is not None
        cycle.keep_alive = False
        self._cycle = cycle
        self._protocol = protocol

    def arrived(self, body: bytes) -> None:
        """Take a part of the body."""
        self._protocol.on_body(body)

    def arrived_whole(self, *, keep_alive: bool) -> None:
        """Note that the body has ended; an answer that was begun before is its connection's last."""
        if not self._cycle.response_started:
            self._cycle.keep_alive = keep_alive
        self._protocol.on_message_complete()


def _disconnect(cycle: Cycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
