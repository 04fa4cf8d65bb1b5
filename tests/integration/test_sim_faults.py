"""A simulated replica fails when and how it is told to, and is well again afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import orjson
import pytest

from engine.sim.faults import FaultKind
from tests.record_vllm import Case, chat, record
from tests.sim_process import SimProcess, parsed, running_sim

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
STREAM = chat("", stream=True, stream_options={"include_usage": True}).body or {}
WHOLE = chat("").body or {}
EMBED = {"model": "demo", "input": "hello"}
HEALTH = Case("", "GET", "/health")
SILENCE_S = 0.2


@pytest.fixture(scope="module")
def process() -> Iterator[SimProcess]:
    with running_sim("--decode-ms-per-token", "1") as running:
        yield running


@pytest.fixture
async def sim(process: SimProcess) -> AsyncIterator[SimProcess]:
    """Give the replica and leave no fault behind."""
    yield process
    await process.ask("DELETE", "/sim/faults")


async def put(sim: SimProcess, kind: FaultKind, **rest: Any) -> None:
    await sim.ask("POST", "/sim/faults", {"kind": kind, **rest})


async def status_of(sim: SimProcess, path: str, body: dict[str, Any]) -> int:
    status: int = (await sim.transcript(path, body))["status"]
    return status


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return everything until the connection ends."""
    async with asyncio.timeout(5):
        return await reader.read()


async def test_refuse_is_a_503_or_a_stream_that_says_so(sim: SimProcess) -> None:
    await put(sim, FaultKind.REFUSE)
    assert await status_of(sim, CHAT, WHOLE) == 503
    stream = await sim.transcript(CHAT, STREAM)
    assert stream["status"] == 200
    first, done = map(parsed, stream["chunks"])
    assert (first["error"]["code"], done) == (503, "[DONE]")


async def test_refuse_can_answer_streams_by_status(sim: SimProcess) -> None:
    await put(sim, FaultKind.REFUSE, in_band=False)
    assert await status_of(sim, CHAT, STREAM) == 503


@pytest.mark.parametrize(("path", "body"), [(CHAT, WHOLE), (CHAT, STREAM), (EMBEDDINGS, EMBED)])
async def test_http_500(sim: SimProcess, path: str, body: dict[str, Any]) -> None:
    await put(sim, FaultKind.HTTP_500)
    assert await status_of(sim, path, body) == 500


async def test_abort_ends_after_so_many_tokens(sim: SimProcess) -> None:
    await put(sim, FaultKind.ABORT, after_tokens=3)
    *_, finish, usage, done = await sim.frames(CHAT, STREAM)
    assert (finish["choices"][0]["finish_reason"], done) == ("abort", "[DONE]")
    assert usage["usage"]["completion_tokens"] == 3
    whole = await sim.ask("POST", CHAT, WHOLE)
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("abort", 3)


@pytest.mark.parametrize("after", [0, 2])
async def test_crash_drops_the_connection_without_a_terminator(sim: SimProcess, after: int) -> None:
    await put(sim, FaultKind.CRASH, after_tokens=after, count=1)
    before = (await sim.stats())["aborted"]
    reader, writer = await sim.open(CHAT, STREAM)
    answer = await rest_of(reader)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b'"delta":{"content"') == after
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    stats = await sim.until(active=0, running=0)
    assert stats["aborted"] == before, "nobody hung up on it"


@pytest.mark.parametrize(("path", "body"), [(CHAT, WHOLE), (EMBEDDINGS, EMBED)])
async def test_crash_leaves_a_plain_request_without_an_answer(sim: SimProcess, path: str, body: dict[str, Any]) -> None:
    await put(sim, FaultKind.CRASH, after_tokens=2)
    reader, writer = await sim.open(path, body)
    assert await rest_of(reader) == b""
    writer.close()


async def test_hang_is_silent_while_health_answers(sim: SimProcess) -> None:
    await put(sim, FaultKind.HANG, after_tokens=2)
    reader, writer = await sim.open(CHAT, STREAM)
    await sim.until(running=1)
    answer = b""
    while answer.count(b'"delta":{"content"') < 2:
        answer += await asyncio.wait_for(reader.read(65536), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), SILENCE_S)
    assert (await record(sim.address, HEALTH))["response"]["status"] == 200
    assert (await sim.stats())["running"] == 1
    writer.close()
    await sim.until(running=0, active=0)


async def test_hang_gives_a_plain_request_no_answer(sim: SimProcess) -> None:
    await put(sim, FaultKind.HANG)
    for path, body in ((CHAT, WHOLE), (EMBEDDINGS, EMBED)):
        reader, writer = await sim.open(path, body)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SILENCE_S)
        writer.close()
    await sim.until(active=0)


async def test_hold_end_gives_every_token_and_neither_usage_nor_an_end(sim: SimProcess) -> None:
    await put(sim, FaultKind.HOLD_END)
    reader, writer = await sim.open(CHAT, STREAM)
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b'"finish_reason":"length"')
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readuntil(b"[DONE]"), SILENCE_S)
    assert b'"choices":[]' not in answer
    assert (await sim.stats())["running"] == 0
    writer.close()
    await sim.until(active=0)


@pytest.mark.parametrize("body", [WHOLE, STREAM], ids=["json", "stream"])
async def test_late_answers_the_next_request_of_the_connection_with_the_answer_before(
    sim: SimProcess, body: dict[str, Any]
) -> None:
    await put(sim, FaultKind.LATE, count=1)
    host, port = sim.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answers = []
    for name, count in (("one", 1), ("two", 2)):
        text = orjson.dumps(body)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-request-id: {name}\r\n"
        writer.write(f"{head}content-length: {len(text)}\r\n\r\n".encode() + text)
        answers += [await _one_answer(reader) for _ in range(count)]
    assert [b'"id":"chatcmpl-one"' in each for each in answers] == [True, True, False]
    assert b'"id":"chatcmpl-two"' in answers[2]
    assert answers[0].split(b"\r\n\r\n", 1)[1] == answers[1].split(b"\r\n\r\n", 1)[1]
    writer.close()


async def _one_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer: up to its length, or to its last chunk."""
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = re.findall(rb"content-length: (\d+)", head)
        return head + (await reader.readexactly(int(lengths[0])) if lengths else await reader.readuntil(b"0\r\n\r\n"))


async def test_a_fault_hits_as_many_requests_as_it_says(sim: SimProcess) -> None:
    await put(sim, FaultKind.HTTP_500, count=2)
    assert [await status_of(sim, CHAT, WHOLE) for _ in range(3)] == [500, 500, 200]


async def test_a_fault_may_be_for_one_endpoint(sim: SimProcess) -> None:
    await put(sim, FaultKind.HTTP_500, path=COMPLETIONS)
    assert await status_of(sim, CHAT, WHOLE) == 200
    assert await status_of(sim, COMPLETIONS, {"model": "demo", "prompt": "hello"}) == 500


async def test_cleared_faults_are_gone(sim: SimProcess) -> None:
    await put(sim, FaultKind.HTTP_500)
    assert (await sim.ask("GET", "/sim/faults"))["faults"][0]["kind"] == "http_500"
    assert (await sim.ask("DELETE", "/sim/faults"))["faults"] == []
    assert await status_of(sim, CHAT, WHOLE) == 200


async def test_what_is_no_fault_is_refused(sim: SimProcess) -> None:
    assert "kind is one of" in (await sim.ask("POST", "/sim/faults", {"kind": "flood"}))["detail"]
    assert (await sim.ask("GET", "/sim/faults"))["faults"] == []


async def test_one_that_vanished_refuses_connections_and_leaves_what_is_open_silent() -> None:
    with running_sim("--decode-ms-per-token", "5") as sim:
        reader, writer = await sim.open(CHAT, STREAM | {"max_tokens": 2_000, "ignore_eos": True})
        await reader.readuntil(b'"content":"')
        await sim.ask("POST", "/sim/vanish")
        # Reset where the kernel had let it in before the socket was closed.
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            await sim.stats()
        # What came before is read: more never comes, and no end either.
        while (came := await within(reader.read(65_536), SILENCE_S)) is not None:
            assert came, "what is open is not closed"
        writer.close()


async def within(reading: Coroutine[Any, Any, bytes], s_max: float) -> bytes | None:
    """Return what is read in time; None where nothing comes."""
    try:
        return await asyncio.wait_for(reading, s_max)
    except TimeoutError:
        return None
