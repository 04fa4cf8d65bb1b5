"""
The client's side of one exchange: its headers and body in, the answer out, and the news that it left.

Rules: every wait has a deadline; a body is bounded while it is read, not afterwards; writing never waits, and whoever
writes to a client that does not keep up waits for `drained` before it writes on; a client that hangs up ends the relay
at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol

from proxy.edge.bodies import Owner, Share
from proxy.errors import ApiError, ClientGone, Code, InvalidRequest

_JSON = b"application/json"
_LINE_END = b"\r\n"


class Client(Protocol):
    """What an exchange needs of the connection that its request came on; `proxy.edge.direct_cycle` has it."""

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """The first value of each header, by its lower-case name."""

    @property
    def address(self) -> str:
        """Where the client is: at the other end of the connection, or where a trusted proxy says."""

    @property
    def disconnected(self) -> bool:
        """Whether the client is gone."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose callbacks it is."""

    @property
    def more_body(self) -> bool:
        """Whether more of the body is to come than has come."""

    def take(self) -> bytes:
        """Return what has come of the body since the last time; `more_body` tells whether that was the end of it."""

    async def news(self) -> None:
        """Wait until more of the body has come, or the client is gone."""

    def on_gone(self, tell: Callable[[], None] | None) -> None:
        """Call `tell` when the client is gone, and nobody for None."""

    def begin(self, status: int, fields: bytes, body: bytes, length: int | None = None) -> None:
        """Write the head and the first part of an answer that goes on; its `length` is told where it is known."""

    def write(self, body: bytes) -> None:
        """Write another part."""

    def finish(self, body: bytes) -> None:
        """Write the last part of an answer that was begun."""

    def reply(self, status: int, fields: bytes, body: bytes) -> None:
        """Write a whole answer."""

    @property
    def writable(self) -> bool:
        """Whether the client keeps up."""

    async def drained(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""

    def drop(self) -> None:
        """End the connection now: the client is gone."""


class BodyBounds(Protocol):
    """What a request's body is held to; the config's `[limits]` have it."""

    @property
    def body_bytes_max(self) -> int:
        """Bytes of all of it."""

    @property
    def body_s_max(self) -> float:
        """Seconds for all of it."""

    @property
    def body_stall_s(self) -> float:
        """Seconds in which as much has to come as at `body_bytes_per_s_min`."""

    @property
    def body_bytes_per_s_min(self) -> int:
        """Bytes a second at the least."""


class Downstream:
    """
    One client, waiting for one answer.

    Units: `write_s_max` bounds the wait for a client that does not read the end of its answer, in seconds.
    """

    def __init__(self, client: Client, share: Share, always: bytes = b"", *, write_s_max: float) -> None:
        """Stand for a client; `always` are lines of the head of every answer."""
        self.share = share
        """What is held for it of bodies, its own and its answer's."""
        self._client = client
        self._always = always
        self._write_s_max = write_s_max
        self._head: tuple[int, bytes] = (500, b"")
        self.started = False
        """Whether the head of the answer went out; from then on an error can only be told in-band."""
        self.delivered = False
        """Whether any of the answer itself went out; from then on nobody else can give it."""
        self._untold = b""
        """Lines that came too late for the head."""
        self.finished = False
        self.left = False
        """Whether the client hung up."""

    @property
    def address(self) -> str:
        """Where the client is."""
        return self._client.address

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose callbacks the client's are."""
        return self._client.loop

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        value = self._client.fields.get(name)
        return None if value is None else value.decode("latin-1")

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Tell whether any of these headers was sent, by their lower-case names."""
        return not self._client.fields.keys().isdisjoint(names)

    async def read_body(self, owner: Owner, bounds: BodyBounds) -> bytes:
        """Return the whole request body; raise `ApiError` past a bound, `ClientGone` when the client leaves."""
        self.share.owner, bytes_max = owner, bounds.body_bytes_max
        fields = self._client.fields
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ApiError(Code.UNSUPPORTED_MEDIA_TYPE, "The request body must be sent without a Content-Encoding.")
        kind = fields.get(b"content-type", _JSON)
        if kind != _JSON and not _is_json(kind):
            raise InvalidRequest(f"The request body must be JSON: send it with `Content-Type: {_JSON.decode()}`.")
        declared = fields.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > bytes_max:
            raise _too_large(bytes_max)
        if not self._client.more_body:
            return self._take(0, bytes_max)
        end = self.loop.time() + bounds.body_s_max
        try:
            return await self._arriving(bounds, end)
        except TimeoutError:
            late = f"did not arrive within {bounds.body_s_max:g} seconds"
            slow = f"came at less than {bounds.body_bytes_per_s_min} bytes a second"
            message = f"The request body {late if self.loop.time() >= end else slow}."
            raise ApiError(Code.REQUEST_TIMEOUT, message) from None

    async def _arriving(self, bounds: BodyBounds, end: float) -> bytes:
        """Return the rest of the body; raise `TimeoutError` where it is late, or slower than it may be."""
        body = bytearray()  # one block, which the system has back whole: of many small ones it gets back few
        due = bounds.body_stall_s * bounds.body_bytes_per_s_min
        async with asyncio.timeout_at(min(end, self.loop.time() + bounds.body_stall_s)) as deadline:
            expected, more = due, True
            while more:
                await self._client.news()
                more = self._client.more_body
                body += self._take(len(body), bounds.body_bytes_max)
                if len(body) >= expected:
                    expected = len(body) + due
                    deadline.reschedule(min(end, self.loop.time() + bounds.body_stall_s))
        return bytes(body)

    def _take(self, taken: int, bytes_max: int) -> bytes:
        if self._client.disconnected:
            raise ClientGone
        part = self._client.take()
        if taken + len(part) > bytes_max:
            raise _too_large(bytes_max)
        self.share.take(len(part))
        return part

    def watched(self, part: Callable[[], Awaitable[None]]) -> "HangUpWatch":
        """
        Return a block that is cut short with `ClientGone` when the client hangs up; the body must have been read.

        `part()` is run in between, while the block goes on; a block that ends meanwhile ends it. Whoever drives it
        sees by `left` that its end is of no use to anybody. Bounds: `part` must have a deadline, and raise nothing.
        """
        return HangUpWatch(self, self._client, part)

    def head(self, status: int, fields: bytes) -> None:
        """
        Set the head of the answer, each field a line; it goes out with the first part of the body.

        Where it is out already, the lines that it did not have go out as a comment of the stream.
        """
        if self.started:
            told = self._head[1].split(_LINE_END)
            self._untold = b"".join([b": %b\n" % line for line in fields.split(_LINE_END) if line not in told])
        else:
            self._head = status, self._always + fields

    def add(self, fields: bytes) -> None:
        """Add lines to the head of an answer that has not begun."""
        status, lines = self._head
        self._head = status, lines + fields

    def begin(self, fields: bytes, comment: bytes) -> None:
        """Send a head of these lines and a comment before there is an answer, unless something went out already."""
        if self.started or self.left:
            return
        _, later = self._head
        self._head = 200, self._always + fields
        self.comment(comment)
        if later:
            self.head(200, later)

    def write(self, body: bytes) -> bool:
        """
        Write a part of the answer, the head before the first; return whether the client keeps up.

        Where it does not, wait for `drained` before writing on. To a client that is gone nothing is written.
        """
        self.delivered = True
        if self._untold:
            body, self._untold = b"%b\n%b" % (self._untold, body), b""
        return self.comment(body)

    def comment(self, body: bytes) -> bool:
        """Write what is no part of the answer, the head before the first; otherwise as `write`."""
        if self.started:
            self._client.write(body)
        else:
            self.started = True
            self._client.begin(*self._head, body)
        return self._client.writable

    async def drained(self) -> None:
        """Wait until the client has read most of what was written, or is gone; as long as the caller lets it."""
        await self._client.drained()

    @property
    def gone(self) -> bool:
        """Whether the client is gone, be it that nobody was told yet."""
        return self.left or self._client.disconnected

    def give_up(self) -> None:
        """Let go of a client that does not read: what holds for one that hung up holds for it."""
        self._client.drop()

    async def finish(self, *parts: bytes) -> None:
        """
        Write the last part of the answer, or all of it; raise `ClientGone` when the client does not take it.

        An answer in several parts is written as fast as the client reads, and no faster: what is written and not read
        is nobody's any more, and yet takes memory.
        """
        self.finished = True
        if not self._client.writable:
            await self._caught_up()
        if self.started:
            self._client.finish(b"".join(parts))
        elif len(parts) < 2:
            self.started = True
            self._client.reply(*self._head, b"".join(parts))
        else:
            self.started = True
            await self._finish_slowly(parts)

    async def _finish_slowly(self, parts: Sequence[bytes]) -> None:
        client = self._client
        client.begin(*self._head, parts[0], sum(map(len, parts)))
        for part in parts[1:-1]:
            if not client.writable:
                await self._caught_up()
            client.write(part)
        if not client.writable:
            await self._caught_up()
        client.finish(parts[-1])

    async def answer(self, status: int, fields: bytes, body: bytes) -> None:
        """Write a whole answer at once; raise likewise."""
        self.head(status, fields)
        await self.finish(body)

    async def _caught_up(self) -> None:
        try:
            async with asyncio.timeout(self._write_s_max):
                await self._client.drained()
        except TimeoutError:
            raise ClientGone from None


class HangUpWatch:
    """The block of `Downstream.watched`."""

    def __init__(self, downstream: Downstream, client: Client, part: Callable[[], Awaitable[None]]) -> None:
        self._downstream = downstream
        self._client = client
        self._part = part
        self._parting: asyncio.Task[None] | None = None
        self._cut = False

    def __enter__(self) -> None:
        """Begin to watch; raise `ClientGone` where nobody is left to watch."""
        if self._client.disconnected:
            self._downstream.left = True
            raise ClientGone
        task = asyncio.current_task(self._client.loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._client.on_gone(self._gone)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Watch no more."""
        self._client.on_gone(None)
        if self._parting is not None:
            self._parting.cancel()
            # As `asyncio.timeout` does: a cancellation of ours is taken back, anybody else's goes on.
            if self._cut and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise ClientGone from None

    def _gone(self) -> None:
        if not self._downstream.finished:
            self._downstream.left = True
            self._parting = self._client.loop.create_task(self._part_and_cut())

    async def _part_and_cut(self) -> None:
        await self._part()
        self._cut = True
        self._task.cancel()


def _is_json(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip().lower()
    return kind == _JSON or kind.endswith(b"+json")


def _too_large(bytes_max: int) -> ApiError:
    return ApiError(Code.REQUEST_TOO_LARGE, f"The request body is larger than {bytes_max} bytes.")
