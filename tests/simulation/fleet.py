"""
The replicas of a world: the built-in simulated engine on virtual time, and the wires that gateways hold to it.

A wire tells the world what it carried: the usage that a gateway received is what it has to bill.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from engine.faults import ConnectFailed, ResponseTooLarge, UpstreamBroken
from engine.protocols.usage import Usage
from engine.sim.app import Simulator
from engine.sim.config import SimConfig
from engine.sim.exchange import DROP
from engine.wire.connection import Take
from engine.wire.credentials import NONE, Credentials
from engine.wire.transport import Sent, unheard
from tests.simulation.in_order import InOrder
from tests.simulation.loop import OUTSIDE, Process, current

TRIP_S = 0.0003


@dataclass(slots=True)
class Attempt:
    """What one request to a replica came to, as far as the gateway that made it received it."""

    request_id: str
    status: int | None = None
    """None where no answer began."""
    completions: dict[int, int] = field(default_factory=dict)
    prompts: dict[int, int] = field(default_factory=dict)
    final: Usage | None = None
    """The engine's own last word."""
    seen_at_s: list[tuple[float, int]] = field(default_factory=list)
    """When which sum of completion tokens was received, in seconds."""
    _rest: bytes = b""

    @property
    def usage(self) -> Usage:
        """The last usage received."""
        return self.final or Usage(sum(self.prompts.values()), 0, sum(self.completions.values()))

    def received(self, data: bytes, at_s: float) -> None:
        """Read bytes of a stream, the simple way."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            text = frame.removeprefix(b"data: ")
            if text.startswith(b"{"):
                self._read(orjson.loads(text))
        if self._rest.startswith(b"{") and self._rest.endswith(b"}"):
            self._whole_if_it_is(self._rest)
        self.seen_at_s.append((at_s, self.usage.completion_tokens))

    def _read(self, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if not usage:
            return
        if not event["choices"]:
            self.was_whole(event)
            return
        index = event["choices"][0]["index"]
        self.completions[index] = usage["completion_tokens"]
        self.prompts[0] = usage["prompt_tokens"]

    def _whole_if_it_is(self, body: bytes) -> None:
        """Note what an answer in one piece says, once all of it came."""
        with suppress(orjson.JSONDecodeError):
            self.was_whole(orjson.loads(body))

    def was_whole(self, answer: dict[str, Any]) -> None:
        """Note the engine's own sum."""
        usage = answer["usage"]
        self.final = Usage(usage["prompt_tokens"], 0, usage["completion_tokens"])


class SimReplica:
    """One replica, which can be killed, stopped and started."""

    def __init__(self, name: str, config: SimConfig) -> None:
        self.name = name
        self._config = config
        self.wires = InOrder[Wire]()
        self.generations = 0
        self.up = False
        self.start()

    def start(self) -> None:
        """Begin with an empty engine."""
        self.generations += 1
        self.process = Process(f"{self.name}.{self.generations}")
        self.simulator = Simulator(self._config)
        self.up = True

    async def kill(self) -> None:
        """Break every wire."""
        self.up = False
        for wire in list(self.wires):
            wire.cut()
        await self.process.bury()

    async def vanish(self) -> None:
        """Die without a word: nothing listens any more, and every wire stays as it is."""
        self.up = False
        await self.process.bury()

    @property
    def busy(self) -> int:
        """How many requests it works on."""
        return self.simulator.traffic.active if self.up else 0


class Wire:
    """One request to a replica and its response."""

    def __init__(self, replica: SimReplica, scope: dict[str, Any], body: bytes) -> None:
        self._replica = replica
        self._scope = scope | {"extensions": {DROP: {"close": self.cut}}}
        self._arrived: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": body})
        self.open = True
        replica.wires.add(self)
        replica.process.start(self._serve())

    async def next(self) -> dict[str, Any]:
        """Return the next part of the response; raise `UpstreamBroken` where the wire was cut."""
        message = await self._arrived.get()
        if message is None:
            self._arrived.put_nowait(None)
            raise UpstreamBroken("the connection ended early")
        return message

    @property
    def waiting(self) -> bool:
        """Whether the next part is there already."""
        return not self._arrived.empty()

    def cut(self) -> None:
        """Break the connection from the replica's side."""
        self._end()
        self._arrived.put_nowait(None)

    def hang_up(self) -> None:
        """Break the connection from the gateway's side."""
        self._end()
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def _serve(self) -> None:
        await self._replica.simulator(self._scope, self._inbox.get, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        if self.open:
            loop = asyncio.get_running_loop()
            loop.call_later(TRIP_S, self._arrived.put_nowait, message, context=OUTSIDE.copy())

    def _end(self) -> None:
        self.open = False
        self._replica.wires.discard(self)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    wire: Wire
    attempt: Attempt
    stepped: Callable[[str], None]
    rng: random.Random

    async def pour(self, take: Take) -> None:
        more = True
        while more:
            data, more = await self._some()
            self.stepped("chunk")
            # TCP keeps no frames: reads may end anywhere.
            cut = self.rng.randrange(len(data)) if data and self.rng.random() < 0.1 else 0
            for part in (data[:cut], data[cut:]):
                if part:
                    if self.status == 200:
                        self.attempt.received(part, asyncio.get_running_loop().time())
                    if (wait := take(part)) is not None:
                        await wait()

    async def _some(self) -> tuple[bytes, bool]:
        data, more = b"", True
        while more and (not data or self.wire.waiting):
            message = await self.wire.next()
            data += message.get("body", b"")
            more = message.get("more_body", False)
        return data, more

    async def read(self, bytes_max: int) -> bytes:
        data, more = b"", True
        while more:
            part, more = await self._some()
            data += part
        if len(data) > bytes_max:
            raise ResponseTooLarge
        return data


class SimUpstream:
    """The `engine.wire.client.Upstream` of one gateway."""

    def __init__(self, replicas: dict[str, SimReplica], rng: random.Random, stepped: Callable[[str], None]) -> None:
        self._replicas = replicas
        self._rng = rng
        self._stepped = stepped
        self.attempts: dict[str, list[Attempt]] = {}
        self.wires = InOrder[Wire]()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = NONE,
        fields: bytes = b"",
        body: bytes = b"",
        sent: Sent = unheard,
    ) -> AsyncIterator[_Response]:
        """Send one request; the block holds the connection."""
        parts = urlsplit(url)
        replica = self._replicas[str(parts.hostname)]
        await asyncio.sleep(TRIP_S)
        process = current()
        if not replica.up or process is None or process.killed:
            raise ConnectFailed("nothing listens there") from ConnectionRefusedError()
        sent()
        if body:
            self._stepped("sent")
        headers = dict(line.split(b": ", 1) for line in fields.split(b"\r\n")[:-1])
        request_id = headers.get(b"x-request-id", b"").decode()
        attempt = Attempt(request_id)
        if request_id:
            self.attempts.setdefault(request_id, []).append(attempt)
        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "headers": list(headers.items()),
        }
        wire = Wire(replica, scope, body)
        self.wires.add(wire)
        try:
            head = await wire.next()
            attempt.status = head["status"]
            yield _Response(head["status"], wire, attempt, self._stepped, self._rng)
        finally:
            self.wires.discard(wire)
            wire.hang_up()

    def hang_up(self) -> None:
        """End every connection, as the kernel does for a process that was killed."""
        for wire in list(self.wires):
            wire.hang_up()
