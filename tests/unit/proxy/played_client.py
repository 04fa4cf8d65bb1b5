"""A client at the other end of a connection: what it sends, when it leaves, and what it was told."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.wire.sse import FrameSplitter, data_of
from proxy.edge.bodies import Bodies, Share
from proxy.http.downstream import Downstream


@dataclass
class PlayedClient:
    """
    One client with one request.

    `leaves_after` parts of the answer it hangs up; `stalls_after` parts it reads no further.
    """

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    leaves_after: int | None = None
    stalls_after: int | None = None
    parts: list[bytes] | None = None
    """The body as it arrives; all at once for None."""

    def __post_init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        """What it was told."""
        self.left = _Leaving(self)
        self.fields = {name.encode(): value.encode("latin-1") for name, value in self.headers.items()}
        self.address = ""
        self.more_body = self.parts is not None
        self._arrived = [self.body] if self.parts is None else []
        self._to_send = list(self.parts or ())
        self._tell: Callable[[], None] | None = None

    # --- the connection, as the gateway sees it

    @property
    def disconnected(self) -> bool:
        """Whether it hung up."""
        return self.left.is_set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that it lives on."""
        return asyncio.get_running_loop()

    def take(self) -> bytes:
        """Return what has arrived."""
        body, self._arrived = b"".join(self._arrived), []
        return body

    async def news(self) -> None:
        """Let the next part arrive, or wait until it hangs up."""
        await asyncio.sleep(0)
        if self._to_send:
            self._arrived.append(self._to_send.pop(0))
            self.more_body = bool(self._to_send)
        else:
            await self.left.wait()

    def on_gone(self, tell: Callable[[], None] | None) -> None:
        """Have this told when it hangs up."""
        self._tell = tell

    def gone(self) -> None:
        """Tell that it hung up."""
        if self._tell is not None:
            self._tell()

    def begin(self, status: int, fields: bytes, body: bytes, length: int | None = None) -> None:
        """Take a head and the first part."""
        self._told_head(status, fields if length is None else fields + b"content-length: %d\r\n" % length)
        self._told(body)

    def write(self, body: bytes) -> None:
        """Take another part."""
        self._told(body)

    def finish(self, body: bytes) -> None:
        """Take the last part."""
        self._told(body, more=False)

    def reply(self, status: int, fields: bytes, body: bytes) -> None:
        """Take a whole answer."""
        self._told_head(status, fields + b"content-length: %d\r\n" % len(body))
        self._told(body, more=False)

    @property
    def writable(self) -> bool:
        """Whether it reads."""
        return self.stalls_after is None or len(self._bodies) < self.stalls_after or self.disconnected

    async def drained(self) -> None:
        """Wait until it hangs up: who has stalled reads no further."""
        await self.left.wait()

    def drop(self) -> None:
        """Be hung up on."""
        self.left.set()

    def _told_head(self, status: int, fields: bytes) -> None:
        if not self.disconnected:
            headers = [line.split(b": ", 1) for line in fields.split(b"\r\n")[:-1]]
            self.messages.append({"type": "http.response.start", "status": status, "headers": headers})

    def _told(self, body: bytes, *, more: bool = True) -> None:
        if not self.disconnected:
            self.messages.append({"type": "http.response.body", "body": body, "more_body": more})
        if self.leaves_after is not None and len(self._bodies) >= self.leaves_after:
            self.left.set()

    def downstream(self, *, write_s_max: float = 5.0) -> Downstream:
        """Return the gateway's view of this client."""
        return Downstream(self, Share(Bodies(), 2**20), write_s_max=write_s_max)

    # --- what it saw

    @property
    def _bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]

    @property
    def status(self) -> int | None:
        """The answer's status; None where nothing was answered."""
        return next((message["status"] for message in self.messages if "status" in message), None)

    @property
    def answer_headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {
            name.decode(): value.decode() for message in self.messages for name, value in message.get("headers", ())
        }

    @property
    def answer(self) -> bytes:
        """The answer's body so far."""
        return b"".join(self._bodies)

    @property
    def complete(self) -> bool:
        """Whether the end of the answer was sent."""
        return bool(self.messages) and self.messages[-1].get("more_body") is False

    @property
    def json(self) -> Any:
        """The answer's body as JSON."""
        return json.loads(self.answer)

    @property
    def events(self) -> list[bytes]:
        """The data of the answer's events."""
        return [data for frame in FrameSplitter().feed(self.answer) if (data := data_of(frame)) is not None]


class _Leaving(asyncio.Event):
    """Its hanging up: seen at once by who looks, and told a turn later, as a connection's end is."""

    def __init__(self, client: PlayedClient) -> None:
        super().__init__()
        self._client = client

    def set(self) -> None:
        """Hang up."""
        if not self.is_set():
            super().set()
            asyncio.get_running_loop().call_soon(self._client.gone)
