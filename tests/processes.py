"""What runs on this machine, as /proc tells it."""

import time
from pathlib import Path

GONE_S_MAX = 15.0


def descendants(pid: int) -> set[int]:
    """Return the processes that a process started, and those that they did."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {int(child) for child in children} | {below for child in children for below in descendants(int(child))}


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_line(pid: int) -> str:
    """Return the arguments of a process, or nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until_gone(pids: set[int]) -> None:
    """Wait until none of some processes runs."""
    deadline = time.monotonic() + GONE_S_MAX
    while left := {pid for pid in pids if alive(pid)}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
