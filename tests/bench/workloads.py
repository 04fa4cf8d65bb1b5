"""What is asked of every candidate, and which figures come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from tests.bench.candidates.candidate import Target
from tests.bench.load import Load, Reading, loadgen, reading
from tests.bench.usage import Usage, watched

Figures = Mapping[str, float]
"""By name; what could not be measured is left out."""

OPEN_RATE = 1000
KEPT_MIN = 0.95
"""Whoever answers less of an open loop's rate than this has no latency at that rate: its queue only grows."""
CONNECTIONS = 64
CHUNKS = 100
PACE_S = 0.02
PACED = (128, 512, 1000)
MEMORY_AT = 512
PROMPTS = 64
PROMPT_BYTES = 640
"""With the rest of the body 0.8 kB."""


@dataclass(frozen=True, slots=True)
class Bodies:
    """The files that the load generator takes requests from."""

    json: Path
    unpaced: Path
    paced: Path

    @classmethod
    def written(cls, folder: Path) -> "Bodies":
        """Write them: every prompt begins alike, as system prompts do, and ends differently."""
        bodies = cls(folder / "json.jsonl", folder / "unpaced.jsonl", folder / "paced.jsonl")
        bodies.json.write_bytes(b"\n".join(body(number) for number in range(PROMPTS)))
        bodies.unpaced.write_bytes(b"\n".join(body(number, gap_s=0) for number in range(PROMPTS)))
        bodies.paced.write_bytes(b"\n".join(body(number, gap_s=PACE_S) for number in range(PROMPTS)))
        return bodies


def body(number: int, gap_s: float | None = None) -> bytes:
    """Return a chat of 0.8 kB; with a gap one that streams, and tells the upstream how."""
    shared = "You answer briefly, in plain words, and say so when you do not know. " * 5
    own = f"This is conversation {number:04d}. "
    prompt = (own * (PROMPT_BYTES // len(own)))[: PROMPT_BYTES - len(shared)]
    pace = "" if gap_s is None else f"@@n={CHUNKS},d={round(1e6 * gap_s)}@@"
    asked = {
        "model": "bench-model",
        "messages": [{"role": "system", "content": shared}, {"role": "user", "content": prompt + pace}],
        "max_tokens": CHUNKS,
        "temperature": 0.7,
    }
    return orjson.dumps(asked if gap_s is None else {**asked, "stream": True})


@dataclass(frozen=True, slots=True)
class Measuring:
    """One turn's means: where the load goes, what it asks, how long each workload lasts."""

    target: Target
    bodies: Bodies
    seconds: float
    folder: Path
    say: Callable[[str], None]

    async def json(self) -> Figures:
        """Closed loop: as many answers as it gives, and what each costs."""
        seen, used = await self._under(Load(CONNECTIONS, self.seconds, self.bodies.json))
        return {
            "json_rps": seen.answers_per_s,
            **self._cost("json", used, seen.answers_per_s),
            "json_p50_ms": seen.p50_us / 1e3,
            "json_p99_ms": seen.p99_us / 1e3,
            "json_errors": seen.errors,
        }

    async def open(self) -> Figures:
        """Open loop: how long answers take at a rate that everybody should keep."""
        seen, _ = await self._under(Load(CONNECTIONS, self.seconds, self.bodies.json, rate=OPEN_RATE))
        errors = {"open_errors": float(seen.errors)}
        if seen.answers_per_s < KEPT_MIN * OPEN_RATE:
            return errors
        return {"open_p50_us": seen.p50_us, "open_p99_us": seen.p99_us, **errors}

    async def unpaced(self) -> Figures:
        """Streams as fast as they go: what a chunk costs."""
        seen, used = await self._under(Load(CONNECTIONS, self.seconds, self.bodies.unpaced))
        return {
            "chunk_cps": seen.chunks_per_s,
            **self._cost("chunk", used, seen.chunks_per_s),
            "chunk_errors": seen.errors,
        }

    async def paced(self, streams: int) -> Figures:
        """Streams at an engine's pace: whether the chunks come evenly."""
        load = Load(streams, self.seconds, self.bodies.paced, warm_s=1, ramp_s=1)
        seen, used = await self._under(load)
        figures = {
            f"paced_{streams}_kept": seen.chunks_per_s * PACE_S / streams,
            f"paced_{streams}_errors": float(seen.errors),
        }
        if seen.chunks_per_s:
            figures[f"paced_{streams}_gap_ms"] = seen.gap_p99_us / 1e3
        if streams == MEMORY_AT and self.target.pid:
            figures["streams_mb"] = used.memory_mb
        return figures

    async def _under(self, load: Load) -> tuple[Reading, Usage]:
        log = self.folder / "loadgen.log"
        async with loadgen(load, self.target.port, self.target.authorizations, log) as generator:
            used = await watched(self.target.pid, after_s=load.warm_s, for_s=load.seconds)
            seen = await reading(generator)
        if seen.errors:
            self.say(f"  {seen.errors:,} errors at {load.connections} connections: {seen.first_error or 'streams cut'}")
        return seen, used

    def _cost(self, what: str, used: Usage, per_s: float) -> Figures:
        """Return CPU for one answer or chunk, where somebody is charged for it."""
        if not self.target.pid or not per_s:
            return {}
        return {f"{what}_cpu_us": used.cpu_us_per_s / per_s, f"{what}_redis_us": used.redis_us_per_s / per_s}
