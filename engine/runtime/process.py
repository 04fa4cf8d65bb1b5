"""
One child process: started, watched until it is ready, and ended together with everything it started.

Rules:
- A child leads a session of its own: Ctrl-C in the terminal reaches only us, and we end the child in our order.
- It dies with us, even when we are killed with SIGKILL (see `tether.py`).
- It is ended by SIGTERM, then, past its deadline, by SIGKILL; what it started and left behind is killed with it: vLLM
  leaves its engine and its workers when its API process dies.
- Ending is shielded and happens once, whoever asks for it and however often.
- Its output goes to a log file, whose one of the start before is kept beside it as `*.1`, or where ours goes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from engine.runtime import tether
from engine.runtime.shielding import shielded

Probe = Callable[[], Awaitable[bool]]
"""Tells whether the child serves by now; an OSError counts as no."""

PROBE_EVERY_S = 0.05
PROBE_S_MAX = 5.0
KILLED_S_MAX = 5.0
"""How long the kernel may take to end a process after SIGKILL."""
LEFT_BEHIND_S_MAX = 1.0
"""How long the rest of the group may live on after its leader is gone."""
TAIL_LINES = 20
TAIL_BYTES = 8192


class ChildFailed(Exception):
    """A child ended before it was ready, or was not ready in time; the message ends with the tail of its log."""


class Child:
    """
    Own one child process: `async with Child(...) as child: await child.ready(...)`.

    Without a `log` it says what it says where we do. `pass_fds` are the descriptors that it inherits.

    Units: `stop_s_max` in seconds, from SIGTERM to SIGKILL; it may be changed while the child runs.
    Bounds: leaving takes at most about `stop_s_max` + 6 s.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path | None,
        env: Mapping[str, str] | None = None,
        stop_s_max: float = 10.0,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._command = tuple(command)
        self._pass_fds = tuple(pass_fds)
        self._env = os.environ | dict(env or {})
        self.stop_s_max = stop_s_max
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Return the process id, which is the process group's id too."""
        return self._started.pid

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    async def __aenter__(self) -> Self:
        """Start the process."""
        shim = (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()))
        with _fresh(self.log) if self.log else nullcontext() as output:
            self._process = await asyncio.create_subprocess_exec(
                *shim,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if output else None,
                env=self._env,
                start_new_session=True,
                pass_fds=self._pass_fds,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process and everything it started."""
        await self.stop()

    async def ready(self, probe: Probe, *, within_s: float) -> None:
        """
        Wait until `probe` says yes.

        Raises: ChildFailed as soon as the child has exited, or after `within_s`.
        """
        exited = asyncio.ensure_future(self.wait())
        served = asyncio.ensure_future(_succeeds(probe))
        try:
            await asyncio.wait({exited, served}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                raise ChildFailed(f"{self.name} {told(exited.result())} before it was ready{self._tail()}")
            if not served.done():
                raise ChildFailed(f"{self.name} was not ready within {within_s:g} s{self._tail()}")
            served.result()
        finally:
            exited.cancel()
            served.cancel()
            await asyncio.gather(exited, served, return_exceptions=True)

    async def wait(self) -> int:
        """Wait until the process is gone; return its exit status, negative for a signal."""
        return await self._started.wait()

    async def stop(self) -> None:
        """End the process and everything it started; the second call waits for the first."""
        await shielded(self._ended())

    def kill(self) -> None:
        """End the process and everything it started without a chance to do anything; `wait` tells when it is gone."""
        _signal_group(self.pid, signal.SIGKILL)

    async def _ended(self) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await self._ending

    async def _end(self) -> None:
        process = self._started
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            await _waited(process, self.stop_s_max)
        if process.returncode is not None:
            await _gone(process.pid, LEFT_BEHIND_S_MAX)
        _signal_group(process.pid, signal.SIGKILL)
        await _waited(process, KILLED_S_MAX)

    def _tail(self) -> str:
        if self.log is None:
            return ""
        text = self.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        lines = "\n".join(f"  {line}" for line in text.splitlines()[-TAIL_LINES:])
        return f"; {self.log} ends with\n{lines}" if lines else f"; {self.log} is empty"


def told(status: int) -> str:
    """Say an exit status in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def _fresh(log: Path) -> BinaryIO:
    """Open an empty log and keep the one before, if it says anything."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.open("wb")


async def _waited(process: asyncio.subprocess.Process, within_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await process.wait()


async def _succeeds(probe: Probe) -> None:
    # Not `asyncio.wait_for`, which loses a cancellation that comes as the probe ends (until Python 3.12).
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_S_MAX):
                if await probe():
                    return
        await asyncio.sleep(PROBE_EVERY_S)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


async def _gone(group: int, within_s: float) -> None:
    with suppress(TimeoutError, ProcessLookupError):
        async with asyncio.timeout(within_s):
            while True:
                os.killpg(group, 0)
                await asyncio.sleep(PROBE_EVERY_S)
