"""
One HTTP/1.1 connection to a replica: a request goes out; the head of its answer and the parts of its body come in.

Rules:
- One request at a time. After a whole answer the next may follow, if neither side said otherwise.
- A body is taken as it arrives, in the socket's own callback: no task is woken for a part of it.
- What nobody has taken yet is bounded: beyond `_UNREAD_BYTES_MAX` the socket is not read, and the replica has to wait.
- An answer without a length ends with the connection; any other that ends there is broken.
- Bytes that nobody asked for close the connection.

Must not know pools, deadlines, or whose request it is.
"""

import asyncio
import select
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

import httptools
import httpx

_HEAD_BYTES_MAX = 64 * 1024
_UNREAD_BYTES_MAX = 64 * 1024
_TAKEN_BYTES_MAX = 32 * 1024

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

Headers = list[tuple[bytes, bytes]]
Wait = Callable[[], Awaitable[object]]
Take = Callable[[bytes], Wait | None]
"""Takes a part of a body. Where it returns something to wait for, it gets no more before that is over."""


class UpstreamConnection(asyncio.Protocol):
    """The protocol of one socket; `httptools.HttpResponseParser` calls its `on_...` methods."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._arrivals = select.poll()
        self._waiter: asyncio.Future[None] | None = None
        self._take: Take | None = None
        """Who takes the body, while its task sleeps."""
        self._wait: Wait | None = None
        self._refusal: Exception | None = None
        """What whoever takes the body raised."""
        self._fault: httpx.TransportError | None = None
        self._parts: list[bytes] = []
        self._unread = 0
        self._head_bytes = 0
        self._paused = False
        self._has_head = False
        self._ends_with_connection = False
        self.status = 0
        self.headers: Headers = []
        self.asked = False
        """Whether a request was written whose answer has not been read to its end."""
        self.heard = False
        """Whether anything has come since that request was written."""

    @property
    def usable(self) -> bool:
        """Whether another request may be written."""
        return not self.asked and not self._parts and self._fault is None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that the event loop has not read yet: 0.4 us, once for a request."""
        return not self._arrivals.poll(0)

    # What the pool and the response do

    def write(self, request: bytes) -> None:
        """Send a request; its answer is the next one."""
        assert self._transport is not None
        self.asked = True
        self.heard = self._has_head = self._ends_with_connection = False
        self.status, self.headers, self._head_bytes = 0, [], 0
        self._wait = self._refusal = None
        self._transport.write(request)

    async def head(self) -> None:
        """Wait until `status` and `headers` are known; raise `httpx.TransportError`."""
        while not self._has_head:
            await self._more()

    async def pour(self, take: Take) -> None:
        """Hand the body to `take` as it arrives, up to its end; raise `httpx.TransportError` and what `take` raises."""
        while True:
            while self._parts:
                if (wait := take(self._part())) is not None:
                    await wait()
            if not self.asked:
                return
            self._take = take
            try:
                await self._more()
            finally:
                self._take = None
            if self._refusal is not None:
                raise self._refusal
            if (wait := self._wait) is not None:
                self._wait = None
                await wait()

    def _pour_on(self, take: Take) -> None:
        """Hand over what has come; wake the task where it is not to sleep on."""
        try:
            while self._parts:
                if (wait := take(self._part())) is not None:
                    self._wait = wait
                    break
            else:
                if self.asked and self._fault is None:
                    return
        except Exception as refusal:  # noqa: BLE001 (whatever it is, it belongs to the task that sleeps)
            self._refusal = refusal
        self._take = None
        self._wake()

    def _part(self) -> bytes:
        """Take what has come, as far as it is not much."""
        if self._unread <= _TAKEN_BYTES_MAX:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
        else:
            data = self._first_parts()
        self._unread -= len(data)
        if self._paused and self._unread <= _UNREAD_BYTES_MAX and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def _first_parts(self) -> bytes:
        """Take as much as whoever reads should hold at a time; a part that is larger goes alone."""
        size = count = 0
        for part in self._parts:
            if count and size + len(part) > _TAKEN_BYTES_MAX:
                break
            size, count = size + len(part), count + 1
        data = b"".join(self._parts[:count])
        del self._parts[:count]
        return data

    def close(self) -> None:
        """End the connection now, whatever is under way."""
        self._refusal = None  # its traceback leads back to here
        self._fail(httpx.ReadError("the connection was closed"))
        if self._transport is not None:
            self._transport.abort()

    def _more(self) -> asyncio.Future[None]:
        """Return what is done when something has come; raise where nothing will."""
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, fault: httpx.TransportError) -> None:
        self._fault = self._fault or fault
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._arrivals.register(transport.get_extra_info("socket"), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if not self.asked:
            self.close()
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"no HTTP: {type(error).__name__}"))
            self.close()
            return
        if self._take is not None:
            self._pour_on(self._take)
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._fail(httpx.RemoteProtocolError("the head of the answer does not end"))
                self.close()
        elif self._unread > _UNREAD_BYTES_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.asked and self._ends_with_connection and exc is None and self._fault is None:
            self.asked = False
        ended = "the connection ended" if self.heard else self._unheard()
        if isinstance(exc, ssl.SSLError) and not self.heard:
            # With TLS 1.3 a server looks at our certificate when we believe that we are through.
            self._fail(fault_of_tls(exc))
        self._fail(httpx.ReadError(ended) if exc else httpx.RemoteProtocolError(ended))
        del self._parser  # which leads back to here: no connection should need the garbage collector

    def _unheard(self) -> str:
        ended = "the connection ended without an answer"
        if self._transport is None or self._transport.get_extra_info("ssl_object") is None:
            return ended
        # Servers on asyncio and uvloop, vLLM's among them, leave without TLS's own words for it.
        return f"{ended}: with TLS, where the replica may want another certificate"

    # httptools.HttpResponseParser

    def on_message_begin(self) -> None:
        if not self.asked:
            self._fault = self._fault or httpx.RemoteProtocolError("more came than an answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.asked and not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self.asked:
            return
        if status < 200:
            self.headers = []
            return
        self.status, self._has_head = status, True
        # The parser keeps no connection whose answer ends with it: only among the others is the reason looked for.
        self._ends_with_connection = (
            not self._parser.should_keep_alive()
            and status not in (204, 304)
            and _FRAMING.isdisjoint(name.lower() for name, _ in self.headers)
        )

    def on_body(self, body: bytes) -> None:
        if self.asked:
            self._parts.append(body)
            self._unread += len(body)

    def on_message_complete(self) -> None:
        if self.asked and self._has_head:
            self.asked = False
            if not self._parser.should_keep_alive():
                self._fault = self._fault or httpx.RemoteProtocolError("the connection is not kept")


def fault_of_tls(error: ssl.SSLError) -> httpx.ConnectError:
    """Return what keeps two sides from speaking TLS, in OpenSSL's words: they hold names of the config, and no more."""
    if isinstance(error, ssl.SSLCertVerificationError):
        told = httpx.ConnectError(f"its certificate is not trusted: {error.verify_message.rstrip('.')}")
    else:
        told = httpx.ConnectError((error.reason or error.strerror or "").replace("_", " ").lower())
    told.__cause__ = error
    return told
