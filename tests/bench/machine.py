"""The machine a run is on: which core is whose, what processes have used, and what a reader must know about it."""

import os
import platform
import re
import resource
import shutil
import socket
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from proxy.fatal import Fatal

CANDIDATE_CORE = 0
LOAD_CORE = 1
"""Load generator, upstream, Redis and this program."""
FILES_MIN = 4096
"""A proxy with 1,000 streams has 2,000 sockets."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Unsuitable(Fatal):
    """Here nothing can be measured; the message says what is missing."""


class Missing(Exception):
    """A candidate or a tool cannot be had here; the message says why. The rest goes on."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat."""

    pid: int
    name: str
    parent: int
    cpu_s: float
    """With that of its children that have ended."""
    rss_bytes: int

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read a line; a name may hold blanks and parentheses. Source: proc(5)."""
        head, _, tail = stat.rpartition(")")
        pid, _, name = head.partition(" (")
        fields = tail.split()
        cpu_s = sum(map(int, fields[11:15])) / _TICKS_PER_S
        return cls(int(pid), name, int(fields[1]), cpu_s, int(fields[21]) * _PAGE_BYTES)


def processes() -> dict[int, Process]:
    """Return every process there is, by its id."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            process = Process.parse(file.read_text())
            found[process.pid] = process
    return found


def family(everything: Mapping[int, Process], root: int) -> list[Process]:
    """Return a process and all that descend from it."""
    if root not in everything:
        return []
    children = (process.pid for process in everything.values() if process.parent == root)
    return [everything[root], *(member for child in children for member in family(everything, child))]


def is_redis(process: Process) -> bool:
    """Say whether a process is a Redis, whose cost is told apart."""
    return process.name.startswith(("redis-server", "valkey-server"))


def pinned(core: int, command: Iterable[str]) -> tuple[str, ...]:
    """Return the command that runs `command` on one core."""
    return ("taskset", "--cpu-list", str(core), *command)


def move(pid: int, core: int) -> None:
    """Move every thread of a running process to one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def suit() -> None:
    """Take the load's core and enough files for this process and all that it starts. Raises: Unsuitable."""
    if platform.system() != "Linux" or not shutil.which("taskset"):
        raise Unsuitable("the bench needs Linux and taskset (Debian's package util-linux) to keep the two cores apart")
    if not {CANDIDATE_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise Unsuitable(
            f"the bench needs the cores {CANDIDATE_CORE} and {LOAD_CORE}: one to measure, one for the load"
        )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < FILES_MIN:
        raise Unsuitable(f"the bench needs {FILES_MIN} open files a process and may have {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MIN, hard))
    os.sched_setaffinity(0, {LOAD_CORE})


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in with_ports]
    for listening in with_ports:
        listening.close()
    return ports


def described() -> dict[str, str]:
    """Return what a reader must know to compare figures."""
    cpuinfo, meminfo = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    model = _first(r"model name\s*: (.+)", cpuinfo) or platform.machine()
    memory_kb = int(_first(r"MemTotal:\s*(\d+)", meminfo) or 0)
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kb / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1].strip() if found else None


def megabytes(some: Collection[Process]) -> float:
    """Return what processes hold in memory together, in MB."""
    return sum(process.rss_bytes for process in some) / 1e6
