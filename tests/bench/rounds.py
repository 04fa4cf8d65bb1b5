"""The order of things: every candidate once a round, each alone on its core, the order rotated from round to round."""

import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from engine.runtime.process import ChildFailed
from tests.bench.candidates import Candidate
from tests.bench.candidates.candidate import Place
from tests.bench.figures import Round, with_added
from tests.bench.load import ToolFailed, upstream
from tests.bench.machine import free_ports, megabytes
from tests.bench.rivals import ROOT
from tests.bench.usage import look
from tests.bench.workloads import PACED, Bodies, Figures, Measuring

RESULTS = ROOT / "bench-results"
REPLICAS = 2
MINUTES_MAX = 11.0
"""No round begins that would end later, going by the longest before it; installing comes before and does not count."""
UPSTREAM_READY_S_MAX = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What every turn stands on: a folder, the replicas, and what they are asked."""

    folder: Path
    replicas: Sequence[str]
    bodies: Bodies

    def place(self, name: str) -> Place:
        """Return a fresh place for one turn of a candidate."""
        port, spare_port = free_ports(2)
        return Place(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)), port, spare_port, self.replicas)


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Run the replicas for the block, in a folder that goes with it. It is in the checkout: its disk is a real one."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=RESULTS, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ports = free_ports(REPLICAS)

        async def listens() -> bool:
            socket.create_connection(("127.0.0.1", ports[-1]), timeout=1).close()
            return True

        async with upstream(ports, folder / "upstream.log") as child:
            await child.ready(listens, within_s=UPSTREAM_READY_S_MAX)
            yield Ground(folder, [f"http://127.0.0.1:{port}" for port in ports], Bodies.written(folder))


async def play(candidates: Sequence[Candidate], *, rounds: int, seconds: float, say: Say) -> list[Round]:
    """Measure every candidate `rounds` times, or as often as the time allows."""
    played: list[Round] = []
    began_s, longest_s = monotonic(), 0.0
    async with ground() as here:
        for number in range(rounds):
            round_began_s = monotonic()
            if round_began_s + longest_s > began_s + 60 * MINUTES_MAX:
                say(f"stopped after {number} rounds: {MINUTES_MAX:g} minutes are over")
                break
            say(f"round {number + 1} of {rounds}")
            played.append(with_added(await _round(rotated(candidates, number), here, seconds, say)))
            longest_s = max(longest_s, monotonic() - round_began_s)
    return played


def rotated(candidates: Sequence[Candidate], by: int) -> list[Candidate]:
    """Return the candidates in the order of a round: nobody is always the first."""
    by %= len(candidates)
    return [*candidates[by:], *candidates[:by]]


async def _round(candidates: Sequence[Candidate], here: Ground, seconds: float, say: Say) -> Round:
    played: dict[str, Figures] = {}
    for candidate in candidates:
        began_s = monotonic()
        try:
            played[candidate.name] = await _turn(candidate, here, seconds, say)
        except (ChildFailed, ToolFailed) as fault:
            say(f"  {candidate.name}: {fault}")
        else:
            answers_per_s = played[candidate.name]["json_rps"]
            say(f"  {candidate.name:<26}{answers_per_s:>9,.0f} requests/s {monotonic() - began_s:>7.1f} s")
    return played


async def _turn(candidate: Candidate, here: Ground, seconds: float, say: Say) -> Figures:
    place = here.place(candidate.name)
    async with candidate.started(place) as target:
        idle = {"idle_mb": megabytes(look(target.pid).own)} if target.pid else {}
        measuring = Measuring(target, here.bodies, seconds, folder=place.folder, say=say)
        figures = [idle, await measuring.json(), await measuring.open(), await measuring.unpaced()]
        for streams in PACED:
            figures.append(await measuring.paced(streams))
    return {name: value for some in figures for name, value in some.items()}
