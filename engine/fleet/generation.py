"""
Whether a replica's engine generates, by its own counters, looked at every few seconds while it works for this gateway.

Rules:
- One whose count of generated tokens moves is alive, however silent one stream is: a parser may hold back a tool call
  for minutes.
- One whose count stands still for `STILL_S_MAX` while it says that requests run has stalled. That is told and no more:
  a long prefill looks the same.
- One that tells no such counts (another engine, or a `/metrics` that is not to be had) is judged by its answers alone.

Source: vLLM's `/metrics` (0.32), Prometheus' text format; there is a series for each engine and each model's name.
"""

import asyncio
import re
from typing import NamedTuple

from engine.faults import UpstreamFault
from engine.fleet.replica import Replica
from engine.wire.client import Upstream

LOOK_S = 5.0
STILL_S_MAX = 10.0
_ANSWER_S_MAX = 2.0
_BODY_BYTES_MAX = 16 * 1024 * 1024
_SAMPLE = re.compile(rb"^vllm:(generation_tokens_total|num_requests_running)(?:\{[^\n]*\})? ([^ \n]+)", re.MULTILINE)


class Counts(NamedTuple):
    """What all engines of a replica say together."""

    generated: float
    running: float


def counts_of(exposition: bytes) -> Counts | None:
    """Return the counts of an exposition; None where it has none of generated tokens."""
    sums: dict[bytes, float] = {}
    try:
        for name, value in _SAMPLE.findall(exposition):
            sums[name] = sums.get(name, 0.0) + float(value)
    except ValueError:
        return None
    generated = sums.get(b"generation_tokens_total")
    return None if generated is None else Counts(generated, sums.get(b"num_requests_running", 0.0))


class TokenWatch:
    """What one replica's counts have said so far; the replica is noted what follows from it."""

    def __init__(self, replica: Replica, upstream: Upstream) -> None:
        self._replica = replica
        self._upstream = upstream
        self._looks_at = 0.0
        self._generated: float | None = None
        """At the last look; None where that was too long ago to compare."""
        self._moved_at = 0.0

    async def look(self) -> bool:
        """Look, where it is time to and something runs; return whether it has stalled now, or does no longer."""
        replica, now = self._replica, _now()
        if not replica.generates or not (replica.leases or replica.stall):
            self._generated = None
            return False
        if now < self._looks_at:
            return False
        self._looks_at = now + LOOK_S
        had_stalled = replica.stall is not None
        replica.stall = self._judged(await self._counts(), now)
        return had_stalled is (replica.stall is None)

    async def _counts(self) -> Counts | None:
        replica = self._replica
        asked = self._upstream.request("GET", f"{replica.url}/metrics", credentials=replica.credentials)
        try:
            async with asyncio.timeout(_ANSWER_S_MAX), asked as response:
                body = await response.read(_BODY_BYTES_MAX)
                return counts_of(body) if response.status == 200 else None
        except (UpstreamFault, TimeoutError):
            return None

    def _judged(self, counts: Counts | None, now: float) -> str | None:
        """Note when it generated last; return what there is to say of a stall."""
        before, self._generated = self._generated, counts.generated if counts else None
        if counts is None:
            return None
        if before not in (None, counts.generated):
            self._replica.generating_at = now
        if before != counts.generated or not counts.running:
            self._moved_at = now
        still_s = now - self._moved_at
        if still_s < STILL_S_MAX:
            return None
        return f"no token for {still_s:.0f} s while {counts.running:.0f} requests run"


def _now() -> float:
    """Return what the event loop has for a time, as deadlines are told in it."""
    return asyncio.get_running_loop().time()
