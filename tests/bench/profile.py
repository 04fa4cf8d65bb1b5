"""
Where Tollway's time goes under the JSON load: by function, and by what the function belongs to.

py-spy looks from outside, a hundred times a second, into C as well. Where it cannot be had or may not look (it needs
ptrace, which containers often lack), cProfile counts from inside, from the start on: it slows every call, so small
functions seem larger than they are, and importing is among what it counts.
"""

import pstats
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.runtime.process import Child
from tests.bench import rivals
from tests.bench.candidates.tollway import COMMAND, Tollway
from tests.bench.load import Load, Reading, loadgen, reading
from tests.bench.machine import LOAD_CORE, Missing, pinned
from tests.bench.rounds import Ground, ground
from tests.bench.workloads import CONNECTIONS

PY_SPY = ("py-spy", "0.4.3")
SECONDS_MIN = 10.0
RATE_HZ = 100
FUNCTIONS = 25
SPY_LATE_S_MAX = 60.0

GROUPS: Mapping[str, str] = {
    "JSON": r"orjson|\bjson/",
    "JWT": r"\bjwt/|cryptography|hmac\.py|_hashopenssl",
    "Redis client": r"(?<!proxy/)\bredis/|hiredis",
    "upstream client": r"\b(httpx|httpcore|h11|anyio|sniffio)/|\bengine/wire/",
    "server": r"\buvicorn/|httptools|llhttp|proxy/http/listeners",
    "Litestar": r"\b(litestar|msgspec|multidict)/|msgspec",
    "metrics and logs": r"\b(prometheus_client|logging)/|proxy/observe/",
    "our stages": r"\b(proxy|engine|policies)/",
    "event loop and sockets": r"uvloop|\basyncio/|_asynciomodule|\bloop\.c|selectors",
}
"""What a frame belongs to, the first that fits. One that fits none (contextlib, libc) belongs to whoever called it."""
_WAITS = re.compile(r"pthread_cond_\w*wait|PyThread_acquire_lock|\bsem_\w*wait|fdatasync|fsync|epoll_p?wait")
"""A thread in one of these is not at work, though py-spy, which stops it to look, may take it for running."""
_PYTHON = re.compile(r"(?P<function>.+) \((?P<file>[^()]+\.py|<[^()]+>)(?::\d+)?\)")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the time went, in samples or seconds."""

    by: str
    functions: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """Return both tables as shares of the whole."""
        both = (("belongs to", self.groups), ("function, with the C it calls", self.functions))
        return "\n\n".join(self._shares(title, counted) for title, counted in both)

    def _shares(self, title: str, counted: Counter[str]) -> str:
        whole = counted.total() or 1
        rows = (f"{100 * spent / whole:>6.1f} %  {name}" for name, spent in counted.most_common(FUNCTIONS))
        return "\n".join([f"self time  {title} ({self.by})", *rows])


def from_stacks(lines: Iterable[str]) -> Spent:
    """Count py-spy's raw stacks, but those that wait: `outer;...;inner COUNT`, a frame being `name (file:line)`."""
    spent = Spent("py-spy")
    for line in lines:
        if _WAITS.search(line):
            continue
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        python = next((found for frame in reversed(frames) if (found := _PYTHON.fullmatch(frame))), None)
        spent.functions[f"{python['function']}  {python['file']}" if python else frames[-1]] += int(count)
        spent.groups[next((group for frame in reversed(frames) if (group := group_of(frame))), "other")] += int(count)
    return spent


def group_of(frame: str) -> str | None:
    """Return what a frame belongs to, if anything."""
    return next((name for name, pattern in GROUPS.items() if re.search(pattern, frame)), None)


async def profile(seconds: float, say: Say) -> str:
    """Run Tollway alone under the JSON load and return what to print."""
    async with ground() as here:
        try:
            rivals.install(*PY_SPY)
            seen, spent = await _spied(here, seconds)
        except Missing as why:
            say(f"without py-spy, by cProfile instead: {why}")
            seen, spent = await _counted(here, seconds)
    return f"{seen.answers_per_s:,.0f} requests/s while it was looked at\n\n{spent.told()}"


async def _spied(here: Ground, seconds: float) -> tuple[Reading, Spent]:
    place = here.place("profile")
    stacks = place.folder / "stacks"
    look = (
        "--rate",
        str(RATE_HZ),
        "--duration",
        f"{seconds:.0f}",
        "--native",
        "--format",
        "raw",
        "--output",
        str(stacks),
    )
    async with Tollway().started(place) as target:
        spy = pinned(LOAD_CORE, (str(rivals.BIN / "py-spy"), "record", "--pid", str(target.pid), *look))
        log = place.folder / "loadgen.log"
        async with (
            loadgen(Load(CONNECTIONS, seconds, here.bodies.json), target.port, target.authorizations, log) as generator,
            Child("py-spy", spy, log=place.folder / "py-spy.log") as child,
        ):
            status = await child.wait()
            seen = await reading(generator)
    if status or not stacks.exists():
        said = (place.folder / "py-spy.log").read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Missing(said[-1])
    return seen, from_stacks(stacks.read_text().splitlines())


async def _counted(here: Ground, seconds: float) -> tuple[Reading, Spent]:
    place = here.place("profile")
    counts = place.folder / "counts"
    async with Tollway((sys.executable, "-m", "cProfile", "-o", str(counts), *COMMAND)).started(place) as target:
        log = place.folder / "loadgen.log"
        load = Load(CONNECTIONS, seconds, here.bodies.json)
        async with loadgen(load, target.port, target.authorizations, log) as generator:
            await generator.wait()
            seen = await reading(generator)
    return seen, _from_counts(counts)


def _from_counts(file: Path) -> Spent:
    spent = Spent("cProfile")
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]] = vars(pstats.Stats(str(file)))["stats"]
    for (where, _, name), (_, _, seconds, _, _) in stats.items():
        frame = f"{name} ({where})"
        microseconds = round(1e6 * seconds)
        spent.functions[f"{name}  {where.rpartition('site-packages/')[2]}"] += microseconds
        spent.groups[group_of(frame) or "other"] += microseconds
    return spent
