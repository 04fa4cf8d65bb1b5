"""Clients that do not read what they asked for: the gateway holds little of it, and their replica is held back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.bare_client import ask
from tests.e2e.gateway import Running, gateway_of
from tests.e2e.test_cuts import CONFIG

STALLED = 50
TOKENS = 1_000
TOKEN_BYTES = 16_384
"""A stream has 16 MB, and all of them 800."""
GROWTH_BYTES_MAX = 40 * 2**20
PATIENCE = {f"TOLLWAY__LIMITS__{name}_S_MAX": "120" for name in ("TTFT", "IDLE", "WRITE", "EXCHANGE")}
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Replica:
    """A replica that streams as fast as it is read."""

    url: str = ""
    sent_bytes: int = 0
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            writer.write(STREAM_HEAD)
            for token in range(1, TOKENS + 1):
                self._frame(writer, [{"index": 0, "delta": {"content": "x" * TOKEN_BYTES}}], token)
                await writer.drain()
            self._frame(writer, [], TOKENS)
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            await writer.drain()
            self.ended += 1
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _frame(self, writer: asyncio.StreamWriter, choices: list[object], tokens: int) -> None:
        value = {"id": "c", "choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}
        frame = b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
        writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        self.sent_bytes += len(frame)

    async def held_back(self) -> None:
        """Wait until nothing more is taken from it."""
        async with asyncio.timeout(60):
            before = -1
            while before != self.sent_bytes:
                before = self.sent_bytes
                await asyncio.sleep(1)


@asynccontextmanager
async def streaming() -> AsyncIterator[Replica]:
    replica = Replica()
    server = await asyncio.start_server(replica.serve, "127.0.0.1", 0)
    replica.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield replica
    finally:
        server.close()


def resident_bytes(running: Running) -> int:
    """Return how much memory a gateway holds."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return 1_024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def test_fifty_stalled_readers_cost_little_memory_and_hold_their_replica_back(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with streaming() as replica:
        where = {f"TOLLWAY__MODELS__{model}__REPLICAS__0__URL": replica.url for model in (0, 1)}
        starting = gateway_of(CONFIG, folder, environment=PATIENCE | where)
        running = await asyncio.to_thread(starting.__enter__)
        try:
            await (await ask(running, "warm", max_tokens=TOKENS)).rest()
            assert replica.ended == 1
            before, sent = resident_bytes(running), replica.sent_bytes
            clients = [
                await ask(running, f"stalled-{at}", receive_bytes=4_096, max_tokens=TOKENS) for at in range(STALLED)
            ]
            await replica.held_back()
            growth = resident_bytes(running) - before
            taken = replica.sent_bytes - sent
            assert replica.ended == 1
            with capsys.disabled():
                told = (
                    f"{growth / 2**20:.1f} MiB, of {taken / 2**20:.0f} MiB taken and {STALLED * sent / 2**20:.0f} asked"
                )
                print(f"[{STALLED} stalled readers: {told}] ", end="")  # noqa: T201
            assert growth < GROWTH_BYTES_MAX
            for client in clients[1:]:
                client.leave()
            assert len(await clients[0].rest()) > TOKENS * TOKEN_BYTES, "who reads on has all of it"
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)
