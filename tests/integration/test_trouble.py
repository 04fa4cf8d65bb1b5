"""What is told of a replica that does not answer as it should, by what really happens on the line."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from engine.fleet import health
from engine.fleet.health import check
from engine.fleet.replica import Replica
from engine.fleet.trouble import SLOW, Trouble
from engine.wire.client import DirectUpstream
from tests.ports import claimed_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@asynccontextmanager
async def replica_that(answers: bytes | None, scheme: str = "http") -> AsyncIterator[Replica]:
    """Give a replica that answers so to whatever it is sent, and closes; None says nothing and stays."""
    connected: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        if answers is not None and await reader.read(65_536):
            writer.write(answers)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Replica("r", f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", sequences=1)
    finally:
        for writer in connected:
            writer.close()
        server.close()


async def trouble_of(replica: Replica) -> Trouble | None:
    """Look once."""
    async with DirectUpstream(1.0) as upstream:
        await check(replica, upstream)
    return replica.trouble


@pytest.mark.parametrize(
    ("answers", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
        (UNAVAILABLE, Trouble("HTTP status 503", gone=True)),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Trouble("HTTP status 404")),
        (b"", Trouble("the connection ended without an answer", gone=True)),
    ],
)
async def test_an_answer_of_a_kind(answers: bytes, trouble: Trouble | None) -> None:
    async with replica_that(answers) as replica:
        assert await trouble_of(replica) == trouble


async def test_nobody_listens() -> None:
    with claimed_port() as port:
        assert await trouble_of(Replica("r", f"http://127.0.0.1:{port}", sequences=1)) == Trouble(
            "Connection refused", gone=True
        )


async def test_silence_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ANSWER_S_MAX", 0.05)
    async with replica_that(None) as replica:
        trouble = await trouble_of(replica)
    assert trouble == SLOW


async def test_one_that_speaks_no_tls_where_it_should() -> None:
    async with replica_that(UNAVAILABLE, "https") as replica:
        trouble = await trouble_of(replica)
    assert trouble is not None
    assert trouble.cause.startswith("TLS: ")
    assert not trouble.gone
