"""
Start replicas on this machine, keep them running, and end them: `async with launch(specs, ...) as launched:`.

Rules:
- All start at once; one that does not get ready fails the launch, and the others are ended.
- Later others may `begin`, and any of them `end`; of the later ones, one that does not get ready is reported and tried
  again.
- One that dies later is told to `report` and started again at the same address (`engine.runtime.keeper`).
- Readiness is `GET /health`; what becomes of it later is the business of `health.py`.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

from engine.fleet import command
from engine.fleet.command import LaunchCommand, LaunchSpec
from engine.runtime.keeper import Keeper, Kept
from engine.runtime.process import Child, told

HOST = "127.0.0.1"
READY_S_MAX = {"sim": 10.0, "vllm": 300.0}
PATIENCE_S = 30.0
"""An engine that may take longer to start says so."""
STOP_S_MAX = 10.0

Report = Callable[[str, str], None]
"""Takes a replica's name and what became of it, in words."""
Place = tuple[str, str]
"""A model's name, and a replica's."""


class Launched:
    """One replica of ours; it keeps its name and its URL over restarts."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.child: Child | None = None
        """The process as it runs now; None before the first start."""


class Launches:
    """The replicas that run here now, in the order in which they began."""

    def __init__(self, kept: Kept, *, logs: Path, report: Report) -> None:
        self._kept = kept
        self._logs = logs
        self._report = report
        self._running: dict[Place, _Replica] = {}

    def __iter__(self) -> Iterator[Launched]:
        return (replica.launched for replica in self._running.values())

    def __contains__(self, place: Place) -> bool:
        return place in self._running

    def prepare(self, specs: Sequence[LaunchSpec]) -> "Prepared":
        """
        Return what `begin` starts, each with its address; nothing runs yet.

        Raises: engine.fleet.command.EngineMissing.
        """
        beside = [*specs, *(replica.spec for replica in self._running.values())]
        return tuple(
            _Replica(
                spec,
                port,
                command=_command(spec, port, beside),
                log=self._logs / f"{spec.name}.log",
                report=self._report,
            )
            for spec, port in zip(specs, _ports(specs), strict=True)
        )

    async def start(self, prepared: "Prepared") -> None:
        """Run these until each is ready; raise engine.runtime.process.ChildFailed where one does not get so far."""
        self._running |= {_place(replica.spec): replica for replica in prepared}
        await self._kept.start([replica.keeper for replica in prepared])

    def begin(self, prepared: "Prepared") -> None:
        """Run these too, ready or not."""
        self._running |= {_place(replica.spec): replica for replica in prepared}
        for replica in prepared:
            self._kept.begin(replica.keeper)

    async def end(self, place: Place) -> None:
        """End one and everything that it started."""
        await self._kept.end(self._running.pop(place).keeper)


@asynccontextmanager
async def launch(specs: Sequence[LaunchSpec], *, logs: Path, report: Report) -> AsyncIterator[Launches]:
    """
    Run `specs` from when all of them are ready until the block is left; each logs to `logs/NAME.log`.

    Raises: engine.runtime.process.ChildFailed, engine.fleet.command.EngineMissing.
    """
    async with Kept() as kept:
        launches = Launches(kept, logs=logs, report=report)
        await launches.start(launches.prepare(specs))
        yield launches


class _Replica:
    """One replica, as it is run again and again."""

    def __init__(self, spec: LaunchSpec, port: int, *, command: LaunchCommand, log: Path, report: Report) -> None:
        self.spec = spec
        self.launched = Launched(spec.name, f"http://{HOST}:{port}")
        self.keeper = Keeper(self._live, self._report)
        self._port = port
        self._command = command
        self._log = log
        self._ready_s_max = READY_S_MAX[spec.engine]
        self._report_of = report

    async def _live(self, up: asyncio.Event) -> str:
        began = time.monotonic()
        made = Child(
            self.launched.name, self._command.argv, log=self._log, env=self._command.env, stop_s_max=STOP_S_MAX
        )
        async with made as child:
            self.launched.child = child
            if self._ready_s_max > PATIENCE_S:
                self._report(f"is starting, for up to {self._ready_s_max:g} s; see {self._log}")
            await child.ready(lambda: healthy(self._port), within_s=self._ready_s_max)
            self._report(f"is ready after {time.monotonic() - began:.1f} s")
            up.set()
            return told(await child.wait())

    def _report(self, became: str) -> None:
        self._report_of(self.launched.name, became)


Prepared = tuple[_Replica, ...]
"""Replicas that have their addresses and do not run yet."""


def _place(spec: LaunchSpec) -> Place:
    return spec.model, spec.name


async def healthy(port: int) -> bool:
    """Tell whether `GET /health` on the loopback answers 200."""
    reader, writer = await asyncio.open_connection(HOST, port)
    with closing(writer):
        writer.write(f"GET /health HTTP/1.1\r\nhost: {HOST}:{port}\r\nconnection: close\r\n\r\n".encode())
        return (await reader.readline()).split(b" ")[1:2] == [b"200"]


def _command(spec: LaunchSpec, port: int, specs: Sequence[LaunchSpec]) -> LaunchCommand:
    if spec.engine == "sim":
        return command.sim(spec, port)
    return command.vllm(spec, port, beside=sum(other.engine == "vllm" for other in specs))


def _ports(specs: Sequence[LaunchSpec]) -> list[int]:
    """Return each spec's port, or a free one; all free ones are held until the last is found, so that none repeats."""
    with ExitStack() as held:
        return [spec.port or _free_port(held) for spec in specs]


def _free_port(held: ExitStack) -> int:
    probe = held.enter_context(socket.socket())
    probe.bind((HOST, 0))
    port: int = probe.getsockname()[1]
    return port
