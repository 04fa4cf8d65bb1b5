"""
Replicas that play what they were given: recorded answers, faults, and silences.

The replicas' names are the hosts of their URLs. Each request to a replica takes the next of its answers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from engine.faults import UpstreamFault
from engine.wire.client import read_whole
from engine.wire.connection import Take
from engine.wire.credentials import NONE, Credentials
from engine.wire.transport import Sent, unheard
from tests.transcripts import transcript


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence of so many seconds."""

    s: float


Step = bytes | Exception | asyncio.Event | Pause
"""A chunk, a fault, or a silence: until the event is set, or of some time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a replica, or the fault of its connection."""

    steps: tuple[Step, ...]
    status: int = 200
    connects: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a replica got it."""

    replica: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


OWN_ID = b"the request's id"
"""Stands for it in what is answered."""


def replays(name: str, *, until: int | None = None, then: Iterable[Step] = ()) -> Answer:
    """Return a recorded answer: the first `until` chunks of it, and these steps after them."""
    recorded = transcript(name)
    return Answer((*recorded.chunks[:until], *then), recorded.status)


def fails(fault: Exception) -> Answer:
    """Return the answer of a replica that cannot be talked to."""
    return Answer((fault,), connects=False)


def silence() -> asyncio.Event:
    """Return a step that never ends."""
    return asyncio.Event()


class PlayedUpstream:
    """The `engine.wire.client.Upstream` of a fleet of players."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.open = 0
        """How many responses are held now."""
        self.reusable = 0
        """How many were read to their end, so that their connection could be used again."""
        self.aborted: list[list[str]] = []
        """The ids of each abort by id."""
        self.on_abort = asyncio.Event()
        """Set by the first of them."""

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
    ) -> AsyncIterator["_Response"]:
        """Play the replica's next answer."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        if parts.path.endswith("/abort_requests"):
            self.aborted.append(orjson.loads(body)["request_ids"])
            self.on_abort.set()
            yield _Response(Answer((b"{}",)), self)
            return
        headers = dict(line.split(": ", 1) for line in fields.decode().splitlines())
        self.asked.append(Asked(parts.hostname, parts.path, headers, orjson.loads(body) if body else {}))
        answer = self.answers[parts.hostname].pop(0)
        await asyncio.sleep(0)
        if not answer.connects:
            (fault,) = answer.steps
            assert isinstance(fault, Exception)
            raise fault
        sent()
        self.open += 1
        own = headers["x-request-id"].encode()
        steps = tuple(step.replace(OWN_ID, own) if isinstance(step, bytes) else step for step in answer.steps)
        try:
            yield _Response(replace(answer, steps=steps), self)
        finally:
            self.open -= 1


@dataclass(frozen=True, slots=True)
class _Response:
    answer: Answer
    upstream: PlayedUpstream

    @property
    def status(self) -> int:
        return self.answer.status

    async def pour(self, take: Take) -> None:
        for step in self.answer.steps:
            await asyncio.sleep(0)
            if isinstance(step, UpstreamFault):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Pause):
                await asyncio.sleep(step.s)
            elif isinstance(step, bytes) and (wait := take(step)) is not None:
                await wait()
        self.upstream.reusable += 1

    async def read(self, bytes_max: int) -> bytes:
        return await read_whole(self, bytes_max)
