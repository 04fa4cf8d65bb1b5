"""A client at the other end of ASGI: what it sends, when it leaves, and what it was told."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from engine.sse import FrameSplitter, data_of
from proxy.downstream import Downstream
from proxy.edge.bodies import Bodies, Share


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
        self.left = asyncio.Event()
        self._to_send = [self.body] if self.parts is None else list(self.parts)

    async def receive(self) -> Any:
        """Be the server's `receive`."""
        await asyncio.sleep(0)
        if self._to_send:
            part = self._to_send.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._to_send)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Be the server's `send`."""
        await asyncio.sleep(0)
        if self.stalls_after is not None and len(self._bodies) >= self.stalls_after:
            await asyncio.Event().wait()
        self.messages.append(message)
        if self.leaves_after is not None and len(self._bodies) >= self.leaves_after:
            self.left.set()

    def downstream(self, *, write_s_max: float = 5.0, path: str = "/v1/chat/completions") -> Downstream:
        """Return the gateway's view of this client."""
        scope: Any = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in self.headers.items()],
        }
        return Downstream(scope, self.receive, self.send, Share(Bodies(2**20)), write_s_max=write_s_max)

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
