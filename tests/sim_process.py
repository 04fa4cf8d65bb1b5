"""A simulated replica in a process of its own, and a client that leaves nothing to a library."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from tests.record_vllm import Case, record, send

COMMAND = (sys.executable, "-c", "from proxy.cli.sim import sim; sim()")
PATIENCE_S = 10.0


@dataclass(frozen=True)
class SimProcess:
    """A running replica."""

    address: str
    process: subprocess.Popen[str]

    def end(self) -> int:
        """Tell it to stop, wait, return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer of a control endpoint or of a request without stream."""
        transcript = await record(self.address, Case("", method, path, raw=None if body is None else dumps(body)))
        return orjson.loads(transcript["response"]["chunks"][0])

    async def transcript(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the whole response to a POST, chunk by chunk."""
        response: dict[str, Any] = (await record(self.address, Case("", "POST", path, body)))["response"]
        return response

    async def frames(self, path: str, body: dict[str, Any]) -> list[Any]:
        """Return the frames of a stream, parsed; `[DONE]` as the text it is."""
        return [parsed(chunk) for chunk in (await self.transcript(path, body))["chunks"]]

    async def stats(self) -> dict[str, Any]:
        """Return the counters of /sim/stats."""
        stats: dict[str, Any] = await self.ask("GET", "/sim/stats")
        return stats

    async def until(self, **wanted: int) -> dict[str, Any]:
        """Wait until the counters are as wanted: another process has no event to wait for."""
        async with asyncio.timeout(PATIENCE_S):
            stats = await self.stats()
            while not all(stats[name] == value for name, value in wanted.items()):
                await asyncio.sleep(0.005)
                stats = await self.stats()
        return stats

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Leave no fault behind."""
        try:
            yield
        finally:
            asyncio.run(self.ask("DELETE", "/sim/faults"))

    async def open(self, path: str, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a POST and return the connection, the answer unread."""
        reader, writer = await send(self.address, Case("", "POST", path, body))
        return reader._reader, writer


def dumps(value: Any) -> str:
    """Return a value as JSON text."""
    return orjson.dumps(value).decode()


def parsed(chunk: str) -> Any:
    """Return what one SSE frame holds."""
    assert chunk.startswith("data: ")
    assert chunk.endswith("\n\n")
    assert chunk.count("\n\n") == 1, "a chunk is a frame"
    text = chunk.removeprefix("data: ").strip()
    return text if text == "[DONE]" else orjson.loads(text)


@contextmanager
def running_sim(*options: str) -> Iterator[SimProcess]:
    """Run one replica on a free port and end it."""
    with subprocess.Popen([*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, url = process.stdout.readline().split()
            assert word == "ready"
            yield SimProcess(url.removeprefix("http://"), process)
        finally:
            process.kill()
