"""
Whether Tollway's cost grows with what it holds: users, limits of a plan, open streams.

Each pair is measured as a candidate is, one after the other in every round: few and many users under the JSON load, one
limit and as many as a plan can have. What a user costs who has gone is Redis' memory before and after. Open streams are
as many as asked, or as the machine's file descriptors allow: each takes two of them, and each speaks once a second.
"""

import asyncio
import resource
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from redis import Redis

from policies.quota import Per, Scope, Unit
from proxy.redis.embedded.server import address
from tests.bench.candidates.candidate import Place, Target
from tests.bench.candidates.tollway import CONFIG, USERS, Tollway
from tests.bench.load import Load, loadgen, reading
from tests.bench.machine import megabytes
from tests.bench.rounds import Ground, ground
from tests.bench.usage import look, watched
from tests.bench.workloads import CHUNKS, CONNECTIONS, body

USERS_FEW, USERS_MANY = 10, 100_000
LIMITS = [
    *((scope, unit, per) for scope, unit, per in product(Scope, (Unit.REQUESTS, Unit.TOKENS), Per)),
    *((scope, Unit.CONCURRENT, None) for scope in Scope),
]
"""Every limit that a plan can have: one of each name."""
STREAMS_WANTED = 10_000
SPARE_FILES = 600
AMPLE = {Per.SECOND: 10**8, Per.MINUTE: 10**9, Per.HOUR: 10**10, Per.DAY: 10**11, Per.MONTH: 10**12, None: 10**6}
"""Amounts that are never reached here, and that an operator might write."""
ASKED_S_MAX = 120.0
STREAM_GAP_S = 1.0
STREAM_CHUNKS = 20
STREAM_S = 10.0
DIAL_S = 8.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """One of two gateways that are compared."""

    name: str
    users: int = USERS
    config: Path = CONFIG
    asked: int = 5_000
    """Requests before it counts; as many in what it is compared with."""

    def started(self, place: Place) -> AbstractAsyncContextManager[Target]:
        """Run it for the block."""
        return Tollway(config=self.config, users=self.users).started(place)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one of them did in one round. Units: microseconds of CPU a request."""

    rps: float
    cpu_us: float
    redis_us: float
    errors: int


async def growth(rounds: int, seconds: float, say: Say) -> str:
    """Measure and return what to print."""
    streams = _room()
    few, many = (Setting(f"{users:,} users", users, asked=USERS_MANY) for users in (USERS_FEW, USERS_MANY))
    async with ground() as here:
        growing = Growing(here, rounds, seconds, say)
        one, every = (
            Setting(f"{len(limits)} limits", config=_with_limits(here.folder, limits))
            for limits in (LIMITS[:1], LIMITS)
        )
        told = [
            await growing.compared(few, many),
            await growing.idle_user(many),
            await growing.compared(one, every),
            await growing.streams(Setting(f"{streams:,} streams", config=_open_to_all(here.folder, streams)), streams),
        ]
    return "\n\n".join(told)


@dataclass(frozen=True, slots=True)
class Growing:
    """How each of them is measured."""

    here: Ground
    rounds: int
    seconds: float
    say: Say

    async def compared(self, fewer: Setting, more: Setting) -> str:
        """Measure two in every round, the order turned each time; return both, and the median of their ratios."""
        pairs: list[tuple[Seen, Seen]] = []
        for number in range(self.rounds):
            order = (fewer, more) if number % 2 == 0 else (more, fewer)
            seen = {setting.name: await self._seen(setting) for setting in order}
            pairs.append((seen[fewer.name], seen[more.name]))
        lines = [f"{'':<16}{'requests/s':>12}{'CPU µs/request':>16}{'Redis µs/request':>18}{'errors':>8}"]
        for setting, of in zip((fewer, more), zip(*pairs, strict=True), strict=True):
            rps, cpu, redis = (median(getattr(one, name) for one in of) for name in ("rps", "cpu_us", "redis_us"))
            lines.append(
                f"{setting.name:<16}{rps:>12,.0f}{cpu:>16.1f}{redis:>18.1f}{sum(one.errors for one in of):>8,}"
            )
        kept = median(b.rps / a.rps for a, b in pairs)
        return "\n".join([*lines, f"{more.name} / {fewer.name}: {kept:.2f} of the requests/s"])

    async def _seen(self, setting: Setting) -> Seen:
        place = self.here.place("growth")
        load = Load(CONNECTIONS, self.seconds, self.here.bodies.json)
        async with setting.started(place) as target:
            await self._all_have_asked(target, place, setting.asked)
            async with loadgen(load, target.port, target.authorizations, place.folder / "loadgen.log") as generator:
                used = await watched(target.pid, after_s=load.warm_s, for_s=load.seconds)
                seen = await reading(generator)
        rps = seen.answers_per_s
        self.say(f"  {setting.name:<16}{rps:>9,.0f} requests/s")
        return Seen(rps, used.cpu_us_per_s / rps, used.redis_us_per_s / rps, seen.errors)

    async def _all_have_asked(self, target: Target, place: Place, asked: int) -> None:
        """Let so many requests be asked, the users in turn, so that each is known."""
        load = Load(CONNECTIONS, ASKED_S_MAX, self.here.bodies.json, warm_s=0, requests_max=asked)
        async with (
            asyncio.timeout(ASKED_S_MAX),
            loadgen(load, target.port, target.authorizations, place.folder / "asking.log") as generator,
        ):
            await generator.wait()

    async def idle_user(self, setting: Setting) -> str:
        """Return what Redis keeps of a user who has asked and gone, until its limits are whole again."""
        place = self.here.place("idle")
        self.say("  what an idle user takes in Redis")
        async with setting.started(place) as target:
            await self._all_have_asked(target, place, setting.asked)
            redis = Redis.from_url(address(place.folder / "data"))
            keys = [key for key in redis.scan_iter("*user-*", count=1_000) if b":used:" in key]
            size = sum(int(redis.memory_usage(key) or 0) for key in keys)
        users = len({key.rpartition(b"user-")[2] for key in keys})
        return f"an idle user: {size / users:,.0f} bytes in {len(keys) / users:.1f} keys ({users:,} users)"

    async def streams(self, setting: Setting, streams: int) -> str:
        """Hold so many streams open at once, and see whether any of them breaks."""
        self.say(f"  {streams:,} streams at once")
        place = self.here.place("streams")
        bodies = place.folder / "slow.jsonl"
        slow = b"@@n=%d," % STREAM_CHUNKS
        bodies.write_bytes(body(0, gap_s=STREAM_GAP_S).replace(b"@@n=%d," % CHUNKS, slow))
        load = Load(streams, STREAM_S, bodies, warm_s=DIAL_S, ramp_s=DIAL_S)
        async with setting.started(place) as target:
            idle_mb = megabytes(look(target.pid).own)
            async with loadgen(load, target.port, target.authorizations, place.folder / "loadgen.log") as generator:
                used = await watched(target.pid, after_s=DIAL_S, for_s=STREAM_S)
                seen = await reading(generator)
        each_kb = 1_000 * (used.memory_mb - idle_mb) / streams
        return (
            f"{setting.name}, each a chunk a second: {seen.chunks_per_s:,.0f} chunks/s, {seen.errors} errors, "
            f"p99 gap {seen.gap_p99_us / 1e6:.2f} s, {used.cpu_us_per_s / 1e4:.0f} % of the core, "
            f"{used.memory_mb:,.0f} MB ({each_kb:.0f} kB a stream)"
        )


def _room() -> int:
    """Take as many files as this process and what it starts may have; return how many streams that is enough for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        hard = 4 * STREAMS_WANTED
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(STREAMS_WANTED, (hard - SPARE_FILES) // 2)


def _with_limits(folder: Path, limits: Sequence[tuple[Scope, Unit, Per | None]]) -> Path:
    """Write the bench's config with these limits, none of which is ever reached."""
    before, _, rest = CONFIG.read_text().partition("[plans.ample]")
    after = rest.partition("[tenants.")[2]
    lines = ", ".join(
        f'{{ scope = "{scope}", unit = "{unit}", amount = {AMPLE[per]}{_per(per)} }}' for scope, unit, per in limits
    )
    written = folder / f"limits-{len(limits)}.toml"
    written.write_text(f"{before}[plans.ample]\nlimits = [{lines}]\n\n[tenants.{after}")
    return written


def _per(per: Per | None) -> str:
    return f', per = "{per}"' if per else ""


def _open_to_all(folder: Path, connections: int) -> Path:
    """Write the bench's config with room for so many connections from one address."""
    most = connections + 100
    written = folder / "open.toml"
    written.write_text(
        f"[listen]\nconnections_max = {most}\nconnections_per_address_max = {most}\n\n{CONFIG.read_text()}"
    )
    return written
