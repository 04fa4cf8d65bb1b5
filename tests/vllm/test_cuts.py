"""Where an exchange can be cut while its replica lives: what is billed, and that the replica stops."""

import asyncio
import time

import httpx
import pytest

from proxy.billing.record import CLIENT_CLOSED, ExchangeRecord, Source
from proxy.errors import Code
from tests.e2e.gateway import Running
from tests.vllm.fleet import CHAT, REPLICAS, Counts, Fleet, chat, long_stream, record_of, records

BACK_S_MAX = 15.0
STAYED_S_MAX = 1.0
"""A client that was held up for longer than this may have stayed for all of the answer, which takes two seconds."""
LET_GO_S_MAX = 2.0
"""Loose: an idle machine needs some 15 ms. What it took is printed."""


async def read_frames(answer: httpx.Response, count: int) -> list[str]:
    """Read so many content frames."""
    frames: list[str] = []
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            frames.append(line)
        if len(frames) == count:
            break
    return frames


async def leave_whole(client: httpx.AsyncClient, after_s: float, *, stream: bool) -> None:
    """Ask, and leave before anything came."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await client.post(CHAT, json=chat(stream=stream))


async def left_whole(fleet: Fleet, user: str) -> tuple[float, float, dict[str, Counts]]:
    """Leave an answer in one piece; return when that was, how long vLLM ran on, and what it had counted before."""
    before = {replica: await fleet.idle(replica) for replica in REPLICAS}
    async with fleet.client(user) as client:
        began = time.monotonic()
        await leave_whole(client, 0.5, stream=False)
        stayed_s = time.monotonic() - began
    took_s = max([await fleet.let_go_s(replica) for replica in REPLICAS])
    await fleet.settled()
    return stayed_s, took_s, before


async def assert_next_is_served(fleet: Fleet, user: str) -> None:
    """Assert that a request after the cut is served and billed."""
    async with fleet.client(f"{user}-next") as client:
        answer = await client.post(CHAT, json=chat(max_tokens=5))
    assert answer.status_code == 200, answer.text
    await fleet.settled()
    assert (await record_of(fleet.gateway, f"{user}-next")).completion_tokens == 5


async def served_again(fleet: Fleet, running: Running) -> None:
    """Wait until a gateway gives work to a replica that hung: it may want to see an answer first."""
    async with fleet.client("after-hang", through=running) as client, asyncio.timeout(BACK_S_MAX):
        while (await client.post(CHAT, json=chat(max_tokens=5))).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await fleet.settled(running)


def assert_cut(record: ExchangeRecord) -> None:
    """Assert that a record is of an exchange whose client left, and says whether anything of it was known."""
    known = record.prompt_tokens or record.completion_tokens
    assert (record.outcome, record.source) == (CLIENT_CLOSED, Source.CUT if known else Source.UNOBSERVED)


async def test_a_client_that_leaves_mid_stream_pays_for_what_was_generated(fleet: Fleet) -> None:
    before = {replica: await fleet.idle(replica) for replica in REPLICAS}
    async with fleet.client("mid-stream") as client, client.stream("POST", CHAT, json=chat(stream=True)) as answer:
        assert len(await read_frames(answer, 20)) == 20
        replica = answer.headers["x-tollway-replica"]
    took_s = await fleet.let_go_s(replica)
    await fleet.settled()
    record, counts = await record_of(fleet.gateway, "mid-stream"), (await fleet.idle(replica)).since(before[replica])
    print(  # noqa: T201
        f"[mid-stream: vLLM runs nothing {1000 * took_s:.0f} ms after the hang-up; {record.completion_tokens} billed, "
        f"{counts.generation_tokens} counted]"
    )
    assert_cut(record)
    assert took_s < LET_GO_S_MAX
    assert 18 <= record.completion_tokens <= counts.generation_tokens < 1500
    assert record.prompt_tokens == counts.prompt_tokens
    await assert_next_is_served(fleet, "mid-stream")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_before_the_first_token_pays_no_completion(fleet: Fleet, *, stream: bool) -> None:
    user = f"before-first-{stream}"
    before = {replica: await fleet.idle(replica) for replica in REPLICAS}
    await fleet.control("/pause?mode=keep", *REPLICAS)
    try:
        async with fleet.client(user) as client:
            await leave_whole(client, 0.5, stream=stream)
        await fleet.settled()
    finally:
        await fleet.control("/resume", *REPLICAS)
    record = await record_of(fleet.gateway, user)
    generated = [(await fleet.idle(replica)).since(before[replica]).generation_tokens for replica in REPLICAS]
    assert_cut(record)
    assert record.completion_tokens == 0
    assert generated == [0, 0], "the replica forgot it while it was paused"
    await assert_next_is_served(fleet, user)


async def test_a_client_that_leaves_a_whole_answer_never_pays_more_than_was_generated(fleet: Fleet) -> None:
    stayed_s, took_s, before = await left_whole(fleet, user := "whole")
    if stayed_s > STAYED_S_MAX:
        stayed_s, took_s, before = await left_whole(fleet, user := "whole-again")
    record = await record_of(fleet.gateway, user)
    counts = (await fleet.idle(record.replica)).since(before[record.replica])
    print(  # noqa: T201
        f"[whole: left after {stayed_s:.2f} s, vLLM runs nothing {1000 * took_s:.0f} ms after the hang-up; "
        f"{record.completion_tokens} billed, {counts.generation_tokens} counted]"
    )
    assert_cut(record)
    assert took_s < LET_GO_S_MAX
    assert record.completion_tokens <= counts.generation_tokens
    assert record.prompt_tokens in (0, counts.prompt_tokens)
    await assert_next_is_served(fleet, user)


async def test_a_replica_that_hangs_before_the_first_token_is_a_timeout(fleet: Fleet, impatient: Running) -> None:
    await fleet.control("/pause?mode=keep", "demo-0")
    try:
        async with fleet.client("hung-first", through=impatient) as client:
            answer = await client.post(CHAT, json=chat(stream=True))
    finally:
        await fleet.control("/resume", "demo-0")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, Code.UPSTREAM_TIMEOUT)
    await fleet.settled(impatient)
    record = await record_of(impatient, "hung-first")
    assert (record.outcome, record.completion_tokens) == (Code.UPSTREAM_TIMEOUT, 0)
    await served_again(fleet, impatient)


async def test_a_replica_that_hangs_mid_stream_is_told_in_band(fleet: Fleet, impatient: Running) -> None:
    await served_again(fleet, impatient)
    before = await fleet.idle("demo-0")
    frames: list[str] = []

    async def read() -> None:
        async with (
            fleet.client("hung-mid", through=impatient) as client,
            client.stream("POST", CHAT, json=long_stream()) as answer,
        ):
            async for line in answer.aiter_lines():
                if line:
                    frames.append(line)

    # It goes on a moment at a time, for a fast machine writes the whole answer before one pause reaches it.
    await fleet.control("/pause?mode=keep", "demo-0")
    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(BACK_S_MAX):
            while len(frames) < 10:
                await fleet.control("/resume", "demo-0")
                await fleet.control("/pause?mode=keep", "demo-0")
            await reading
    finally:
        reading.cancel()
        await fleet.control("/resume", "demo-0")
    assert Code.STREAM_TRUNCATED in frames[-1]
    assert "data: [DONE]" not in frames
    await fleet.settled(impatient)
    record, counts = await record_of(impatient, "hung-mid"), (await fleet.idle("demo-0")).since(before)
    assert record.outcome == Code.STREAM_TRUNCATED
    assert 8 <= record.completion_tokens == counts.generation_tokens
    assert len([one for one in await records(impatient) if one.user == "hung-mid"]) == 1
