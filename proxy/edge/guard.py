"""
uvicorn's httptools protocol, guarded: one client's connection from its first byte to its last.

Rules:
- A head is bounded in bytes, fields and time; a body's framing is bounded by the body; what follows a body's last chunk
  is dropped.
- What is refused is told in the envelope of every other error and the connection is closed: after a request that could
  not be read, nothing on it can be believed.
- An answer given before its request was read whole closes the connection, with what is still coming read and thrown
  away for a moment, so that the client sees the answer and not a reset.
- A hang-up reaches every request of the connection, the ones that wait behind another too: it is read on behind a
  running answer, as far as little has come.
- A client that does not read its answer is dropped, also when nobody waits for it any more.

It knows nothing of paths, tokens or bodies' content.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy.edge import head
from proxy.edge.connections import Connections
from proxy.edge.direct_cycle import DirectCycle, Serve
from proxy.errors import ApiError, Code, InvalidRequest
from proxy.ulids import new_ulid

_PIECE_BYTES = head.BYTES_MAX
"""Fed to the parser at a time: no more of an unfinished head is ever held."""
_FRAMING_BYTES_MAX = 64 * 1024
"""Of chunk sizes, extensions and trailers, beyond as many as the body has itself."""
_PIPELINED_MAX = 16
"""Requests waiting behind the one being answered."""
_UPGRADING = frozenset({b"upgrade", b"connection", b"http2-settings"})
_LINGER_S = 2.0
_LAST_CALL_S = 0.5
"""For a request that was on its way when the gateway began to close its connections."""
_LINGERING_MAX = 256
"""Connections refused at the door that may linger; more are dropped without a word."""

DROPPED, SILENT = "dropped", "silent"
"""Reasons of a refusal that nobody is told: too many at the door; a connection on which nothing came."""


@dataclass(slots=True, kw_only=True)
class Edge:
    """What the connections of one listener share."""

    connections: Connections
    head_s_max: float
    write_s_max: float = 60.0
    """For a client to take a buffer of what it is sent."""
    refused: Callable[[str], None] = lambda reason: None
    """Told the code of each refusal, or one of ours where nobody is told."""
    draining: bool = False
    """Whether every answer from now on is its connection's last."""
    lingering: int = 0
    direct: Mapping[bytes, Serve] = field(default_factory=dict)
    """Who serves a POST to one of these paths, without ASGI."""
    _defaults: list[tuple[bytes, bytes]] = field(default_factory=list)
    _default_lines: bytes = b""

    def default_lines(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """Return the headers of every answer as lines; uvicorn makes a new list of them every second."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join([b"%b: %b\r\n" % pair for pair in defaults])
        return self._default_lines


class _Wire:
    """The transport as uvicorn sees it: closing it is the guard's to do."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], closing: Callable[[], bool]) -> None:
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.close = close
        self.is_closing = closing

    def lost(self) -> None:
        """Let go of the guard: what holds each other is left to the garbage collector, which seldom comes."""
        self.close = lambda: None
        self.is_closing = lambda: True


class GuardedHttp(HttpToolsProtocol):
    """
    One connection.

    Bounds: a head of `head.BYTES_MAX` and `edge.head_s_max` seconds; `_PIPELINED_MAX` requests ahead of their answers,
    and of them no more than uvicorn's `HIGH_WATER_LIMIT` and one read of the socket.
    Source: uvicorn/protocols/http/httptools_impl.py, whose callbacks these are.
    """

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
        self._socket: asyncio.Transport = None  # type: ignore[assignment]  # as uvicorn's own, until it connects
        self.address = ""
        """Who is at the other end of the connection: the client, or the proxy before the gateway."""
        self._counted = False
        self._deaf = False
        """Whether what still comes is thrown away: nothing after it can be believed."""
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None
        """The deadline of a head, or the end of lingering."""
        self._in_head = True
        self._ended = False
        """Whether a request ended in the piece that is being fed."""
        self._fed_bytes = 0
        """Of this head at most, with the piece that is being fed."""
        self._partial_bytes = 0
        """Of a head that has begun and not ended, as far as whole pieces tell."""
        self._framing_bytes = 0
        self._body_bytes = 0
        self._keep_alive = False
        self._idle_until = 0.0
        """When the connection is closed for want of a request; its timer looks at it, and waits on if it has moved."""
        self._ahead_bytes = 0
        """Read while an answer runs that others wait behind."""
        self._unread: float = 0
        """What the client had left unread when that was looked at last; infinite if it has caught up since."""
        self._reading: asyncio.TimerHandle | None = None
        """When that is looked at again."""
        self._running: RequestResponseCycle | DirectCycle | None = None
        self._last_words: bytes | None = None
        """What is said once the answers before it are out."""

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the client in, or tell it why not."""
        self._socket = transport
        self._wire = _Wire(transport, self._hang_up, self._is_closing)
        super().connection_made(self._wire)  # type: ignore[arg-type]
        self.address = self.client[0] if self.client else ""
        refused = self._edge.connections.enter(self.address)
        if refused is None:
            self._counted = True
            self._timer = self.loop.call_later(self._edge.head_s_max, self._head_is_late)
        elif self._edge.lingering < _LINGERING_MAX:
            self._edge.refused(refused.code)
            transport.write(told(refused))
            self._linger()
        else:
            self._edge.refused(DROPPED)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back, and tell every request of this connection that its client left."""
        self._stop_timer()
        if self._reading is not None:
            self._reading.cancel()
        self._unset_keepalive_if_required()
        if self._counted:
            self._counted = False
            self._edge.connections.leave(self.address)
        if self._leaving:
            self._edge.lingering -= 1
        self._deaf = self._leaving = True
        super().connection_lost(exc)
        for cycle in (self._running, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                _disconnect(cycle)
        self.pipeline.clear()
        self._wire.lost()
        self.cycle = self._running = None  # type: ignore[assignment]  # as uvicorn's own, until it connects

    def data_received(self, data: bytes) -> None:
        """Feed the parser piece by piece; whatever it or a check of ours refuses ends the connection."""
        if self._deaf:
            return
        try:
            if len(data) <= _PIECE_BYTES:
                self._feed(data)
            else:
                view = memoryview(data)
                for start in range(0, len(view), _PIECE_BYTES):
                    self._feed(view[start : start + _PIECE_BYTES])
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(
                reason if isinstance(reason, ApiError) else InvalidRequest("This is not a valid HTTP request.")
            )
        except ApiError as error:
            self._refuse(error)
        else:
            if self.pipeline or (self._in_head and self._timer is None and not self._answering):
                self._read_on(len(data))

    def pause_writing(self) -> None:
        """Give a client that is behind its time to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        super().resume_writing()
        self._unread = math.inf

    def shutdown(self) -> None:
        """
        Close the connection once its answer is out: requests that wait behind it are dropped unbegun.

        One that waits for a request is closed a moment later, because closing it with unread bytes would reset what a
        client has sent already.
        """
        self._keep_alive = False
        self.pipeline.clear()
        if self._running is not None and self._answering:
            self._running.keep_alive = False
        elif self._partial_bytes == 0 and not self._leaving:
            self._stop_timer()
            self._unset_keepalive_if_required()
            self._timer = self.loop.call_later(_LAST_CALL_S, self._hang_up)

    def default_lines(self) -> bytes:
        """Return the lines of every answer: its date."""
        return self._edge.default_lines(self.server_state.default_headers)

    def drop(self) -> None:
        """End the connection now, whatever its client has not read."""
        self._socket.abort()

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._partial_bytes = 1
        self.url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.url += url
        if len(self.url) > head.TARGET_BYTES_MAX:
            raise head.target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one after the body is not merged with them."""
        if self._in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head, and start the request."""
        parser = self.parser
        fields = dict(reversed(self.headers))
        if len(fields) != len(self.headers):
            head.check_repeated(self.headers)
        if parser.should_upgrade() and b"upgrade" in fields:
            return
        if len(self.headers) > head.FIELDS_MAX or (self._fed_bytes > head.BYTES_MAX and self._head_is_large()):
            raise head.too_large()
        version, method = parser.get_http_version(), parser.get_method()
        coding = fields.get(b"transfer-encoding")
        path = head.path(method, version, self.url, fields.get(b"host"), coding=coding)
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise InvalidRequest(f"More than {_PIPELINED_MAX} requests are pipelined.")
        self._stop_timer()
        self._in_head = False
        self._partial_bytes = self._framing_bytes = self._body_bytes = 0
        keep_alive = version == "1.1" and parser.should_keep_alive()
        self._keep_alive = keep_alive and not self._edge.draining
        serve = self._edge.direct.get(path) if method == b"POST" else None
        if serve is None:
            self._begin_asgi(expects=fields.get(b"expect", b"").lower() == b"100-continue")
        else:
            self._begin(DirectCycle(self, serve, fields, chunked=version == "1.1"))
        self.cycle.keep_alive = False  # until the body is read: an answer before that is the connection's last

    def _begin_asgi(self, *, expects: bool) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _begin(self, cycle: DirectCycle) -> None:
        """Do as uvicorn's `on_headers_complete` does for an application."""
        before: RequestResponseCycle | DirectCycle | None = self.cycle
        self.cycle = cycle  # type: ignore[assignment]  # it has the fields that uvicorn sets
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, None))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: RequestResponseCycle | DirectCycle, app: Any) -> None:
        self._running = cycle
        if isinstance(cycle, DirectCycle):
            task = self.loop.create_task(cycle.run())
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        cycle: RequestResponseCycle | DirectCycle = self.cycle
        if isinstance(cycle, DirectCycle):
            cycle.arrived(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; another may follow."""
        if self.parser.should_upgrade():
            return
        self._in_head = self._ended = True
        self._partial_bytes = 0
        cycle: RequestResponseCycle | DirectCycle = self.cycle
        if not cycle.response_started:
            cycle.keep_alive = self._keep_alive
        if isinstance(cycle, DirectCycle):
            cycle.arrived_whole()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, or end the connection where something is left to say."""
        self.server_state.total_requests += 1
        if self._is_closing():
            return
        self.flow.resume_reading()
        self._ahead_bytes = 0
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._say_last(self._last_words)
        elif not self._partial_bytes:
            self._idle_until = self.loop.time() + self.timeout_keep_alive
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_at(self._idle_until, self._look_if_idle)
        elif self._timer is None:
            self._timer = self.loop.call_later(self._edge.head_s_max, self._head_is_late)

    def _look_if_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._answering or self._partial_bytes or not self._in_head or self._is_closing():
            return
        if self._idle_until <= self.loop.time():
            self._hang_up()
        else:
            self.timeout_keep_alive_task = self.loop.call_at(self._idle_until, self._look_if_idle)

    # --- the guard's own

    @property
    def _answering(self) -> bool:
        running = self._running
        return running is not None and not running.response_complete and not running.disconnected

    @property
    def _arriving(self) -> RequestResponseCycle | DirectCycle | None:
        """The request whose body is still coming."""
        cycle: RequestResponseCycle | DirectCycle | None = self.cycle
        return cycle if cycle is not None and cycle.more_body else None

    def _read_on(self, size: int) -> None:
        """Wait for a head; or, behind a running answer, for little: of a connection that is not read nobody leaves."""
        if not self.pipeline:
            self._timer = self.loop.call_later(self._edge.head_s_max, self._head_is_late)
            return
        self._ahead_bytes += size
        if self._ahead_bytes <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        else:
            self.flow.pause_reading()

    def _expect_reading(self) -> None:
        if self._reading is None:
            self._unread = self._socket.get_write_buffer_size()
            self._reading = self.loop.call_later(self._edge.write_s_max, self._look_if_read)

    def _look_if_read(self) -> None:
        """Drop a client that has not taken a buffer of its answer since the last look; wait on for another."""
        self._reading = None
        if not (self.flow.write_paused or self._socket.is_closing()):
            return
        if self._socket.get_write_buffer_size() > self._unread - HIGH_WATER_LIMIT:
            self.drop()
        else:
            self._expect_reading()

    def _feed(self, piece: bytes | memoryview) -> None:
        was_in_head, self._ended = self._in_head, False
        self._fed_bytes = self._partial_bytes + len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as asked:
            self._ignore_upgrade()
            self._feed(piece[asked.args[0] :])
            return
        if self._ended:
            return
        if self._in_head:
            self._partial_bytes += len(piece)
            if self._partial_bytes >= head.BYTES_MAX:
                raise head.too_large()
        elif not was_in_head:
            self._framing_bytes += len(piece)
            if self._framing_bytes > _FRAMING_BYTES_MAX + 2 * self._body_bytes:
                raise InvalidRequest("The body's chunks are more framing than body.")

    def _head_is_large(self) -> bool:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > head.BYTES_MAX

    def _ignore_upgrade(self) -> None:
        """Read the head anew without the upgrade: the parser takes no body of a request that asks for one."""
        parser = self.parser
        fields = [(name, value) for name, value in self.headers if name not in _UPGRADING]
        if not parser.should_keep_alive():
            fields.append((b"connection", b"close"))
        first = b"%s %s HTTP/%s" % (parser.get_method(), self.url, parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([first, *(b"%s: %s" % field for field in fields), b"", b""]))

    def _head_is_late(self) -> None:
        self._timer = None
        if self._partial_bytes or self._running is not None:
            seconds = f"{self._edge.head_s_max:g}"
            self._refuse(
                ApiError(Code.REQUEST_TIMEOUT, f"The request's headers did not arrive within {seconds} seconds.")
            )
        else:
            self._edge.refused(SILENT)
            self._hang_up()

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be read, after the answers to what could."""
        self._edge.refused(error.code)
        self._deaf = True
        self._stop_timer()
        broken = self._arriving
        if broken is not None and not broken.response_complete:
            _disconnect(broken)
            self.pipeline = type(self.pipeline)(each for each in self.pipeline if each[0] is not broken)
            if broken.response_started:
                self._hang_up()
                return
        if self._answering:
            self._last_words = told(error)
        else:
            self._say_last(told(error))

    def _say_last(self, words: bytes) -> None:
        self._socket.write(words)
        self._linger()

    def _is_closing(self) -> bool:
        return self._leaving or self._socket.is_closing()

    def _hang_up(self) -> None:
        """Close; first linger where the client may still be sending."""
        if self._leaving:
            return
        unread = self._deaf or self._arriving is not None
        if unread and not self._socket.is_closing():
            self._linger()
        else:
            self._socket.close()
            if self._socket.get_write_buffer_size():
                self._expect_reading()

    def _linger(self) -> None:
        """End our side, and throw away what comes until the client ends its own or the time is up."""
        self._deaf = self._leaving = True
        self._edge.lingering += 1
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self._timer = self.loop.call_later(_LINGER_S, self._socket.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def told(error: ApiError) -> bytes:
    """Return the whole answer for a request that never became one."""
    body = error.body()
    fields = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
        ("x-request-id", new_ulid()),
        *error.headers(),
    ]
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        *(f"{name}: {value}" for name, value in fields),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _disconnect(cycle: RequestResponseCycle | DirectCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
