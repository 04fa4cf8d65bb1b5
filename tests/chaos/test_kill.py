"""The gateway is killed in the middle of a hundred streams, again and again, and started again on the same data."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from proxy.billing.record import Source
from tests.asks import CHAT, chat
from tests.chaos.system import LEASE_S, System, system
from tests.e2e.gateway import Running

STREAMS = 100
RUN_S = 2.5
TOKEN_MS = 100
BEAT_S = 1.0
LATE_S = 1.0
"""What a beat may be late by on a busy machine."""
AHEAD_MAX = 3
"""Tokens that a gateway may have noted and died before it wrote them to its client."""
START_S_MAX = 20.0
_COUNT = re.compile(rb'"completion_tokens":(\d+)')


@dataclass
class Stream:
    """What one client read, and when."""

    request_id: str = ""
    counts: list[tuple[float, int]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> int:
        """Return the last count of tokens that was read."""
        return self.counts[-1][1]

    def by(self, instant: float) -> int:
        """Return the count that had been read by then."""
        return max((count for when, count in self.counts if when <= instant), default=0)

    async def read(self, client: httpx.AsyncClient) -> None:
        """Read until the gateway is gone."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        body = chat(4_000, stream=True, stream_options=options)
        try:
            async with client.stream("POST", CHAT, json=body) as answer:
                assert answer.status_code == 200
                self.request_id = answer.headers["x-request-id"]
                async for data in answer.aiter_raw():
                    found = _COUNT.findall(data)
                    if found:
                        self.counts.append((time.monotonic(), int(found[-1])))
                        self.begun.set()
        except httpx.TransportError:
            return
        raise AssertionError("it ended by itself")


async def one_round(running: Running) -> tuple[float, list[Stream]]:
    """Kill a gateway in the middle of its streams; return when, and what was read."""
    streams = [Stream() for _ in range(STREAMS)]
    limits = httpx.Limits(max_connections=None)
    async with running.client(running.bearer("acme", "ada"), limits=limits) as client:
        reading = [asyncio.create_task(stream.read(client)) for stream in streams]
        async with asyncio.timeout(START_S_MAX):
            await asyncio.gather(*(stream.begun.wait() for stream in streams))
        await asyncio.sleep(RUN_S)
        running.process.kill()
        killed_at = time.monotonic()
        await asyncio.gather(*reading)
    running.process.wait()
    return killed_at, streams


async def until_swept(chaos: System, killed_at: float) -> None:
    """Wait until nothing is open, within the lease of the last that was killed and the start of the next."""
    while left := await chaos.open():
        assert time.monotonic() < killed_at + LEASE_S + START_S_MAX, f"still open: {Counter(left)}"
        await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.wide)])
async def test_kills_in_the_middle_of_a_hundred_streams(tmp_path: Path, rounds: int) -> None:
    killed: list[tuple[float, list[Stream]]] = []
    with system(tmp_path, "--decode-ms-per-token", str(TOKEN_MS), "--max-num-seqs", "128") as chaos:
        for _ in range(rounds):
            with chaos.gateway() as running:
                killed.append(await one_round(running))
        with chaos.gateway():
            await until_swept(chaos, killed[-1][0])
            rows = await chaos.rows()
        generated = await chaos.generated()

    assert [kind for kind, _ in rows] == ["FINAL"] * rounds * STREAMS
    bills = {record.request_id: record for _, record in rows}
    assert bills.keys() == {stream.request_id for _, streams in killed for stream in streams}
    assert {record.source for record in bills.values()} == {Source.RECOVERED}
    assert sum(record.completion_tokens for record in bills.values()) <= generated
    for killed_at, streams in killed:
        for stream in streams:
            billed = bills[stream.request_id].completion_tokens
            assert billed <= stream.last + AHEAD_MAX, "over"
            assert billed >= stream.by(killed_at - BEAT_S - LATE_S), "under by more than a beat"
