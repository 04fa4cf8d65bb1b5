"""The two C programs that make the load: built once, the generator's one line of JSON read."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from engine.runtime.process import Child
from tests.bench.machine import LOAD_CORE, Unsuitable, pinned

SOURCES = Path(__file__).with_name("tools")
BUILT = SOURCES / "build"
LATE_S_MAX = 20.0
"""How much longer than asked the generator may take."""


class ToolFailed(Exception):
    """A tool said no; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Load:
    """
    What is asked of a candidate.

    Units: seconds; `rate` in requests a second, 0 for a closed loop, where every connection asks again once answered.
    """

    connections: int
    seconds: float
    bodies: Path
    warm_s: float = 0.5
    rate: float = 0
    ramp_s: float = 0
    requests_max: int = 0
    """After so many it stops; 0 is when the time is over."""

    def options(self) -> tuple[str, ...]:
        """Return it as `loadgen` takes it."""
        options = {
            "-b": self.bodies,
            "-c": self.connections,
            "-t": f"{self.seconds:g}",
            "-w": f"{self.warm_s:g}",
            "-r": f"{self.rate:g}",
            "-R": round(1000 * self.ramp_s),
            "-n": self.requests_max,
        }
        return tuple(word for name, value in options.items() for word in (name, str(value)))


@dataclass(frozen=True, slots=True)
class Reading:
    """What `loadgen` saw, after the warm-up. Units: microseconds."""

    answers_per_s: float
    """Good ones."""
    errors: int
    """Answers other than 200, and streams cut before `[DONE]`."""
    p50_us: float
    p99_us: float
    chunks_per_s: float
    gap_p99_us: float
    first_error: str

    @classmethod
    def parse(cls, printed: str) -> Self:
        """Read the line. Raises: ToolFailed with what was printed instead."""
        line = next((line for line in reversed(printed.splitlines()) if line.startswith("{")), "")
        try:
            said: dict[str, Any] = orjson.loads(line)
            return cls(
                answers_per_s=(said["req"] - said["err"]) / said["secs"],
                errors=said["err"] + said["cut"],
                p50_us=said["lat_p50"],
                p99_us=said["lat_p99"],
                chunks_per_s=said["cps"],
                gap_p99_us=said["gap_p99"],
                first_error=said["firsterr"],
            )
        except (orjson.JSONDecodeError, KeyError, ZeroDivisionError):
            raise ToolFailed(printed.strip() or "loadgen printed nothing") from None


def built(name: str) -> Path:
    """Return a program, compiled anew when its source has changed. Raises: Unsuitable without a compiler."""
    source, program = SOURCES / f"{name}.c", BUILT / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unsuitable("the bench compiles its load generator and found no C compiler (Debian: apt-get install gcc)")
    BUILT.mkdir(exist_ok=True)
    command = (compiler, "-O2", "-o", str(program), str(source))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise Unsuitable(
            f"{' '.join(command)} failed; it needs a C library with headers (Debian: libc6-dev)\n{done.stderr}"
        )
    return program


def upstream(ports: Sequence[int], log: Path) -> Child:
    """Return the fake vLLM, one replica a port, to be entered."""
    return Child("upstream", _command("upstream", ",".join(map(str, ports))), log=log)


def loadgen(load: Load, port: int, authorizations: Path | None, log: Path) -> Child:
    """Return a generator that puts a load on a port of the loopback, to be entered."""
    who = ("-A", str(authorizations)) if authorizations else ()
    return Child("loadgen", _command("loadgen", "-p", str(port), *load.options(), *who), log=log)


async def reading(generator: Child) -> Reading:
    """Wait for what a generator saw; its load is nearly over. Raises: ToolFailed."""
    try:
        async with asyncio.timeout(LATE_S_MAX):
            await generator.wait()
    except TimeoutError:
        raise ToolFailed("loadgen did not end") from None
    assert generator.log is not None
    return Reading.parse(generator.log.read_text(errors="replace"))


def _command(name: str, *options: str) -> tuple[str, ...]:
    return pinned(LOAD_CORE, (str(built(name)), *options))
