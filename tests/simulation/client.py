"""A client of a world: it asks one thing, reads at its own pace, and may hang up or stall at any moment."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from proxy.edge.bodies import Share
from proxy.http.downstream import Downstream

_UNREAD_MAX = 4
"""Parts that the network holds for a client that does not read."""


class End(StrEnum):
    """How it went for the client."""

    WHOLE = "whole"
    """It read its answer, or an error, to the end."""
    LEFT = "left"
    """It hung up."""
    CUT = "cut"
    """Its connection was closed before the answer's end."""
    REFUSED = "refused"
    """Nobody listened."""


@dataclass(slots=True, kw_only=True)
class Asks:
    """What a client will do."""

    number: int
    at_s: float
    tenant: str
    user: str
    body: dict[str, Any]
    read_s: float = 0.0
    """How long it takes to read a part."""
    leaves_s: float | None = None
    """When it hangs up, counted from its arrival."""
    leaves_after: int | None = None
    """After how many parts it hangs up."""
    stalls_after: int | None = None
    """After how many parts it reads no more."""
    body_s: float = 0.0
    """How long its body takes to arrive."""


@dataclass(eq=False)
class SimClient:
    """One request over a connection of its own."""

    asks: Asks
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    end: End | None = None
    gateway: str = ""

    def __post_init__(self) -> None:
        caller = f"Bearer {self.asks.tenant}/{self.asks.user}".encode()
        self.fields = {b"authorization": caller}
        self.address = ""
        self.disconnected = False
        """Whether it is gone."""
        self.more_body = True
        self._arrived = b""
        self._something = asyncio.Event()
        self._tell: Callable[[], object] | None = None
        self._unread: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = asyncio.Event()

    @property
    def stalled(self) -> bool:
        """Whether it stopped reading by itself."""
        return self.asks.stalls_after is not None and len(self.parts) >= self.asks.stalls_after

    @property
    def answer(self) -> bytes:
        """All that it read."""
        return b"".join(self.parts)

    @property
    def request_id(self) -> str:
        """The id that the answer named."""
        return self.headers.get("x-request-id", "")

    @property
    def saw_the_end(self) -> bool:
        """Whether it has a whole answer that is no error."""
        if self.end is not End.WHOLE or self.status != 200:
            return False
        return not self.asks.body.get("stream") or self.answer.endswith(b"data: [DONE]\n\n")

    @property
    def shown(self) -> tuple[int, int] | None:
        """The (prompt, completion) tokens that the answer says it took."""
        if not self.asks.body.get("stream"):
            usage = orjson.loads(self.answer)["usage"]
        else:
            last = self.answer.split(b"\n\n")[-3].removeprefix(b"data: ")
            usage = orjson.loads(last).get("usage") if last.startswith(b"{") else None
        return (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None

    def downstream(self, share: Share) -> Downstream:
        """Return the gateway's view of this client."""
        return Downstream(self, share, write_s_max=5.0)

    async def live(self) -> None:
        """Send the request, read, and stop when it is over or enough."""
        encoded = orjson.dumps(self.asks.body)
        half = len(encoded) // 2
        self._arrive(encoded[:half])
        try:
            async with asyncio.timeout(self.asks.leaves_s):
                await asyncio.sleep(self.asks.body_s)
                self.more_body = False
                self._arrive(encoded[half:])
                await self._read()
        except TimeoutError:
            self.end = self.end or End.LEFT
        self.close()

    async def _read(self) -> None:
        while self.end is None:
            if self.stalled:
                await self._closed.wait()
                self.end = End.CUT
                return
            message = await self._unread.get()
            self._room.set()
            if message is None:
                self.end = End.CUT
                return
            if self.asks.read_s:
                await asyncio.sleep(self.asks.read_s)
            self.end = self._take(message)

    def _take(self, message: dict[str, Any]) -> End | None:
        """Read a part; return how it ended if that was the end."""
        if "status" in message:
            self.status = message["status"]
            lines = message["fields"].decode().split("\r\n")[:-1]
            self.headers = dict(line.split(": ", 1) for line in lines)
        if message["body"]:
            self.parts.append(message["body"])
        if not message["more"]:
            return End.WHOLE
        return End.LEFT if len(self.parts) == self.asks.leaves_after else None

    def __hash__(self) -> int:
        return self.asks.number

    def close(self) -> None:
        """Close the connection from this side."""
        self.disconnected = True
        self._room.set()
        self._something.set()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def closed(self) -> None:
        """Learn that the connection was closed from the other side."""
        self._closed.set()
        self._unread.put_nowait(None)

    def _arrive(self, part: bytes) -> None:
        self._arrived += part
        self._something.set()

    # --- the connection, as the gateway sees it

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the world's loop."""
        return asyncio.get_running_loop()

    def take(self) -> bytes:
        """Return what has arrived of the body."""
        arrived, self._arrived = self._arrived, b""
        self._something.clear()
        return arrived

    async def news(self) -> None:
        """Wait until more has arrived, or the client is gone."""
        await self._something.wait()

    def on_gone(self, tell: Callable[[], None] | None) -> None:
        """Tell when the client is gone, in the gateway's own time."""
        context = copy_context()
        self._tell = tell and (lambda: asyncio.get_running_loop().call_soon(tell, context=context))

    def begin(self, status: int, fields: bytes, body: bytes, length: int | None = None) -> None:
        """Send the head and the first part."""
        self._send({"status": status, "fields": fields, "body": body, "more": True})

    def write(self, body: bytes) -> None:
        """Send another part."""
        self._send({"body": body, "more": True})

    def finish(self, body: bytes) -> None:
        """Send the last part."""
        self._send({"body": body, "more": False})

    def reply(self, status: int, fields: bytes, body: bytes) -> None:
        """Send a whole answer."""
        self._send({"status": status, "fields": fields, "body": body, "more": False})

    @property
    def writable(self) -> bool:
        """Whether the client keeps up."""
        return self.disconnected or self._unread.qsize() < _UNREAD_MAX

    async def drained(self) -> None:
        """Wait until there is room."""
        while not self.writable:
            self._room.clear()
            await self._room.wait()

    def drop(self) -> None:
        """End the connection."""
        self.close()

    def _send(self, message: dict[str, Any]) -> None:
        # As servers do it: to a client that is gone nothing is sent, and nobody is told.
        if not self.disconnected:
            self._unread.put_nowait(message)
