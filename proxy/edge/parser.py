"""
The requests of one connection as bytes come in: heads that can be read in one way, parts of bodies, and their ends.

Rules: a head is bounded in bytes and fields, a body's framing by the body; what follows a body's last chunk is dropped;
an upgrade is ignored, and its request read as any other. No I/O, no clock.

Source: llhttp behind httptools, whose callbacks these are; RFC 9112 section 7.1, RFC 9110 section 7.8.
"""

from typing import Any, Protocol

import httptools

from proxy.edge import head
from proxy.edge.head import Head
from proxy.errors import ApiError, InvalidRequest

_PIECE_BYTES = head.BYTES_MAX
"""Fed to llhttp at a time: no more of an unfinished head is ever held."""
_FRAMING_BYTES_MAX = 64 * 1024
"""Of chunk sizes, extensions and trailers, beyond as many as the body has itself."""
_UPGRADING = frozenset({b"upgrade", b"connection", b"http2-settings"})


class Arriving(Protocol):
    """A request whose body is to come."""

    def arrived(self, body: bytes) -> None:
        """Take a part of the body."""

    def arrived_whole(self, *, keep_alive: bool) -> None:
        """Note that the body has ended, and whether another request may follow the answer."""


class Requests(Protocol):
    """Who is told what was read; what it raises is raised by `RequestParser.feed`."""

    def request_begins(self, head: Head) -> Arriving:
        """Take a request, and return who takes its body."""


class RequestParser:
    """
    Tells requests as they are read.

    Bounds: a head of `head.BYTES_MAX` and `head.FIELDS_MAX`, a target of `head.TARGET_BYTES_MAX`; framing of a body of
    `_FRAMING_BYTES_MAX` and twice the body.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self.llhttp: Any = _llhttp(self)
        self.in_head = True
        """Whether what comes next belongs to a head."""
        self.head_bytes = 0
        """Of a head that has begun and not ended, as far as whole pieces tell; not 0 once it has begun."""
        self._ended = False
        """Whether a request ended in the piece that is being fed."""
        self._fed_bytes = 0
        """Of this head at most, with the piece that is being fed."""
        self._framing_bytes = 0
        self._body_bytes = 0
        self.keep_alive = False
        """Whether another request may follow the one that arrives: its client allows it, and nobody else forbids it."""
        self._head = Head()
        self._arriving: Arriving = None  # type: ignore[assignment]  # until one begins

    def feed(self, data: bytes | memoryview) -> None:
        """
        Read what has come.

        Raises: ApiError, after which nothing more can be read.
        """
        if len(data) > _PIECE_BYTES:
            view = memoryview(data)
            for start in range(0, len(view), _PIECE_BYTES):
                self.feed(view[start : start + _PIECE_BYTES])
            return
        was_in_head, self._ended = self.in_head, False
        self._fed_bytes = self.head_bytes + len(data)
        try:
            self.llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            rest = data[asked.args[0] :]
        except httptools.HttpParserError as error:
            raise _refused(error) from None
        else:
            if not self._ended:
                self._count(len(data), was_in_head=was_in_head)
            return
        self.feed(self._without_upgrade())
        self.feed(rest)

    def close(self) -> None:
        """Let go of everything: what holds each other waits for the garbage collector, which seldom comes."""
        del self.llhttp, self._requests, self._arriving

    def _count(self, size: int, *, was_in_head: bool) -> None:
        """Bound what has begun and not ended."""
        if self.in_head:
            self.head_bytes += size
            if self.head_bytes >= head.BYTES_MAX:
                raise head.too_large()
        elif not was_in_head:
            self._framing_bytes += size
            if self._framing_bytes > _FRAMING_BYTES_MAX + 2 * self._body_bytes:
                raise InvalidRequest("The body's chunks are more framing than body.")

    def _without_upgrade(self) -> bytes:
        """Return the head to be read anew without its upgrade: llhttp takes no body of a request that asks for one."""
        before, asked = self.llhttp, self._head
        fields = [(name, value) for name, value in asked.fields if name not in _UPGRADING]
        if not before.should_keep_alive():
            fields.append((b"connection", b"close"))
        first = b"%s %s HTTP/%s" % (before.get_method(), asked.target, before.get_http_version().encode())
        self.llhttp = _llhttp(self)
        return b"\r\n".join([first, *(b"%s: %s" % field for field in fields), b"", b""])

    # --- llhttp's callbacks

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.head_bytes = 1
        self._head = Head()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        asked = self._head
        asked.target += url
        if len(asked.target) > head.TARGET_BYTES_MAX:
            raise head.target_too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one after the body is not merged with them."""
        if self.in_head:
            self._head.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head, and tell of the request."""
        llhttp, asked = self.llhttp, self._head
        fields = asked.fields
        asked.by_name = by_name = dict(reversed(fields))
        if len(by_name) != len(fields):
            head.check_repeated(fields)
            by_name.update(head.forwarded(fields))
        if llhttp.should_upgrade() and b"upgrade" in by_name:
            return
        if len(fields) > head.FIELDS_MAX or (self._fed_bytes > head.BYTES_MAX and asked.bytes_read > head.BYTES_MAX):
            raise head.too_large()
        asked.method, asked.version = method, version = llhttp.get_method(), llhttp.get_http_version()
        asked.path = head.path(method, version, asked.target, by_name.get(b"host"))
        if b"transfer-encoding" in by_name:
            head.check_coding(version, by_name[b"transfer-encoding"])
        self.keep_alive = version == "1.1" and llhttp.should_keep_alive()
        self._arriving = self._requests.request_begins(asked)
        self.in_head = False
        self.head_bytes = self._framing_bytes = self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Tell of a part of the body."""
        self._body_bytes += len(body)
        self._arriving.arrived(body)

    def on_message_complete(self) -> None:
        """Tell of the request's end; another may follow."""
        if self.llhttp.should_upgrade():
            return
        self.in_head = self._ended = True
        self.head_bytes = 0
        self._arriving.arrived_whole(keep_alive=self.keep_alive)


def _llhttp(callbacks: RequestParser) -> Any:
    llhttp = httptools.HttpRequestParser(callbacks)
    llhttp.set_dangerous_leniencies(lenient_data_after_close=True)
    return llhttp


def _refused(error: httptools.HttpParserError) -> ApiError:
    reason = error.__context__
    return reason if isinstance(reason, ApiError) else InvalidRequest("This is not a valid HTTP request.")
