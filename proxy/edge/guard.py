"""
uvicorn's httptools protocol, guarded: one client's connection from its first byte to its last.

Rules:
- A head is bounded in time, and so is a connection on which nothing comes.
- What is refused is told in the envelope of every other error and the connection is closed: after a request that could
  not be read, nothing on it can be believed.
- An answer given before its request was read whole closes the connection.
- A hang-up reaches every request of the connection, the ones that wait behind another too: it is read on behind a
  running answer, as far as little has come.
- A client that does not read its answer is dropped, also when nobody waits for it any more.

It knows nothing of paths, tokens or bodies' content.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from proxy.edge.cycles import CyclesInOrder
from proxy.edge.deadlines import Deadline, IdleDeadline
from proxy.edge.direct_cycle import DirectCycle
from proxy.edge.edge import Edge
from proxy.edge.forwarded import FORWARDED_FOR, client_address, is_trusted
from proxy.edge.head import Head
from proxy.edge.lingering import OPEN, REFUSED, LingeringTransport
from proxy.edge.parser import Arriving, RequestParser
from proxy.edge.refusal import DROPPED, SILENT, refusal
from proxy.errors import ApiError, Code

_LAST_CALL_S = 0.5
"""For a request that was on its way when the gateway began to close its connections."""
_LINGERING_MAX = 256
"""Connections refused at the door that may linger; more are dropped without a word."""


class GuardedHttp(CyclesInOrder):
    """
    One connection.

    Bounds: `edge.head_s_max` seconds for a head, `edge.write_s_max` for a client to take a buffer of its answer.
    """

    transport: LingeringTransport  # type: ignore[assignment]  # it has what uvicorn asks of a transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._edge = edge
        self.address = ""
        """Who is at the other end of the connection: the client, or the proxy before the gateway."""
        self._counted = False
        self._forwards = False
        """Whether a trusted proxy is there, which says where its clients are."""
        self._requests = RequestParser(self)
        self._head_deadline = Deadline(self.loop)
        self._idle_deadline = IdleDeadline(self.loop, self.timeout_keep_alive)

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the client in, or tell it why not."""
        lingering = LingeringTransport(
            transport, self.loop, self._edge, arriving=self.arriving, ending=self._stop_reading
        )
        super().connection_made(lingering)  # type: ignore[arg-type]
        self.address = self.client[0] if self.client else ""
        self._forwards = bool(self._edge.trusted_proxies) and is_trusted(self.address, self._edge.trusted_proxies)
        refused = self._edge.connections.enter(self.address)
        if refused is None:
            self._counted = True
            self._expect_head()
        elif self._edge.lingering < _LINGERING_MAX:
            self._refuse(refused)
        else:
            self._edge.refused(DROPPED)
            lingering.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back, and tell every request of this connection that its client left."""
        self._head_deadline.stop()
        self._idle_deadline.stop()
        self.transport.lost()
        if self._counted:
            self._counted = False
            self._edge.connections.leave(self.address)
        super().connection_lost(exc)
        self.disconnect()
        self._requests.close()

    def data_received(self, data: bytes) -> None:
        """Read what has come; what is refused of it ends the connection."""
        if self.transport.state is not OPEN:
            self.transport.discard(data)
            return
        requests = self._requests
        try:
            requests.feed(data)
        except ApiError as error:
            self._refuse(error)
        else:
            if self.pipeline:
                self.read_ahead(len(data))
            elif requests.in_head and not self.answering and not self._head_deadline.running:
                self._expect_head()

    def pause_writing(self) -> None:
        """Give a client that is behind its time to read."""
        super().pause_writing()
        self.transport.write_deadline.falls_behind()

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        super().resume_writing()
        self.transport.write_deadline.catches_up()

    def shutdown(self) -> None:
        """
        Close the connection once its answer is out: requests that wait behind it are dropped unbegun.

        One that waits for a request is closed a moment later, because closing it with unread bytes would reset what a
        client has sent already.
        """
        self._requests.keep_alive = False
        self.pipeline.clear()
        if self.running is not None and self.answering:
            self.running.keep_alive = False
        elif not self._requests.head_bytes and not self.transport.over:
            self._idle_deadline.stop()
            self._head_deadline.start(_LAST_CALL_S, self.transport.close)

    def drop(self) -> None:
        """End the connection now, whatever its client has not read."""
        self.transport.abort()

    def address_of(self, fields: Mapping[bytes, bytes]) -> str:
        """Return where the client of a request is, by its head's fields."""
        told = fields.get(FORWARDED_FOR) if self._forwards else None
        return client_address(self.address, told, self._edge.trusted_proxies) if told else self.address

    def default_lines(self) -> bytes:
        """Return the lines of every answer: its date."""
        return self._edge.default_lines(self.server_state.default_headers)

    # --- its requests

    def request_begins(self, head: Head) -> Arriving:
        """Have a request answered: directly, or by the application."""
        self._head_deadline.stop()
        edge = self._edge
        if edge.draining:
            self._requests.keep_alive = False
        serve = edge.direct.get(head.path) if head.method == b"POST" else None
        if serve is None:
            if self._forwards and self.client:
                self.client = self.address_of(head.by_name), self.client[1]
            return self.begin_asgi(head, self._requests.llhttp)
        return self.begin_direct(DirectCycle(self, serve, head.by_name, chunked=head.version == "1.1"))

    def on_response_complete(self) -> None:
        """Go on to the next request, or end the connection where something is left to say."""
        self.server_state.total_requests += 1
        transport = self.transport
        if transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self.answer_next()
        elif transport.state is REFUSED:
            transport.say_last()
        elif not self._requests.head_bytes:
            self._idle_deadline.begin(self)
        elif not self._head_deadline.running:
            self._expect_head()

    # --- its deadlines, and its end

    @property
    def idle(self) -> bool:
        """Whether nothing is asked, read or answered."""
        waiting = self._requests.in_head and not self._requests.head_bytes
        return waiting and not self.answering and not self.transport.is_closing()

    def close_idle(self) -> None:
        """End the connection for want of a request."""
        self.transport.close()

    def _expect_head(self) -> None:
        self._head_deadline.start(self._edge.head_s_max, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._requests.head_bytes or self.running is not None:
            seconds = f"{self._edge.head_s_max:g}"
            self._refuse(
                ApiError(Code.REQUEST_TIMEOUT, f"The request's headers did not arrive within {seconds} seconds.")
            )
        else:
            self._edge.refused(SILENT)
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be read, after the answers to what could."""
        self._edge.refused(error.code)
        self.transport.refuse(refusal(error))
        self._head_deadline.stop()
        broken = self.arriving()
        if broken is not None and not broken.response_complete:
            self.withdraw(broken)
            if broken.response_started:
                self.transport.close()
                return
        if not self.answering:
            self.transport.say_last()

    def _stop_reading(self) -> None:
        """Leave what still comes to be thrown away."""
        self._head_deadline.stop()
        self._idle_deadline.stop()
        self.flow.resume_reading()
