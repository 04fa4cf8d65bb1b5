"""Settlements that Redis does not have yet: the gateway is killed, its disk is full, Redis is silent."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import orjson
import pytest

from proxy.billing.entry import Entry
from proxy.redis.client import RedisClient
from proxy.store.ledger import read
from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway
from tests.e2e.test_outages import served_again

STREAMS = 12
SILENT_S = 10.0
SOON_S_MAX = 20.0
FAULTY = {"model": "faulty"}
"""The one model whose users have a window of tokens and nothing else."""


@asynccontextmanager
async def client_of(running: Running, tenant: str = "acme") -> AsyncIterator[httpx.AsyncClient]:
    """Be ada of a tenant, with its first plan."""
    async with running.client(running.bearer(tenant)) as opened:
        yield opened


async def stream(
    client: httpx.AsyncClient, tokens: int, begun: asyncio.Event | None = None, *, model: str = "demo"
) -> tuple[str, int, bool]:
    """Read one stream; return its request id, how many tokens its client was shown, and whether it ended well."""
    asked = chat(tokens, stream=True) | {"model": model, "stream_options": {"include_usage": True}}
    completion, done = 0, False
    async with client.stream("POST", CHAT, json=asked) as answer:
        assert answer.status_code == 200
        request_id = answer.headers["x-request-id"]
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                usage = orjson.loads(line[6:]).get("usage")
                completion = usage["completion_tokens"] if usage else completion
                if begun is not None:
                    begun.set()
            done = done or line == "data: [DONE]"
            if done:
                break
    return request_id, completion, done


async def under_way(
    client: httpx.AsyncClient, count: int, tokens: int, *, model: str = "demo"
) -> list[asyncio.Task[tuple[str, int, bool]]]:
    """Begin streams and return once each has shown something."""
    begun = [asyncio.Event() for _ in range(count)]
    streams = [asyncio.create_task(stream(client, tokens, event, model=model)) for event in begun]
    await asyncio.gather(*(event.wait() for event in begun))
    return streams


async def ledger(running: Running, tenant: str = "acme", *, at_least: int = 0) -> list[Entry]:
    """Return a tenant's ledger, once it has so many rows."""
    address = f"unix://{running.folder / 'data' / 'redis.sock'}"
    async with RedisClient(address, deadline_s=10) as connection, asyncio.timeout(SOON_S_MAX):
        while len(entries := [entry async for entry in read(connection, [tenant], 0, 2**52)]) < at_least:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return entries


def assert_billed_once(entries: list[Entry], shown: list[tuple[str, int, bool]]) -> None:
    """Assert one FINAL for each stream, with the tokens that its client was shown."""
    assert {entry.kind for entry in entries} == {"FINAL"}
    billed = {entry.record.request_id: entry.record.completion_tokens for entry in entries}
    assert len(billed) == len(entries)
    assert billed == {request_id: tokens for request_id, tokens, _ in shown}


def killed(running: Running) -> None:
    """Kill the gateway as `kill -9` does."""
    running.process.kill()
    running.process.wait()


async def test_killed_right_after_done_while_redis_was_silent_each_is_billed_to_the_token(tmp_path: Path) -> None:
    with gateway(tmp_path) as first:
        async with client_of(first) as client:
            streams = await under_way(client, STREAMS, 300)
            redis = first.redis_pid
            os.kill(redis, signal.SIGSTOP)
            shown = await asyncio.gather(*streams)
            killed(first)
        os.kill(redis, signal.SIGKILL)
        assert all(done for _, _, done in shown)
    with gateway(tmp_path) as second:
        assert_billed_once(await ledger(second, at_least=STREAMS), shown)
        assert second.metrics("tollway_tokens_total", tenant="acme", kind="completion") == STREAMS * 300
        assert second.metrics("tollway_ledger_lag_records") == 0
    with gateway(tmp_path) as third:
        assert_billed_once(await ledger(third), shown)


async def test_redis_silent_for_ten_seconds_under_load_costs_no_stream_its_end_and_no_token_its_bill(
    tmp_path: Path,
) -> None:
    with gateway(tmp_path) as running:
        async with client_of(running, "hooli") as client:
            streams = await under_way(client, STREAMS, 400, model="faulty")
            redis = running.redis_pid
            os.kill(redis, signal.SIGSTOP)
            try:
                silence = asyncio.create_task(asyncio.sleep(SILENT_S))
                refused = await asyncio.gather(
                    *(client.post(CHAT, json=chat(5, stream=True) | FAULTY) for _ in range(5))
                )
                shown = await asyncio.gather(*streams)
                await silence
            finally:
                os.kill(redis, signal.SIGCONT)
            assert [answer.status_code for answer in refused] == [503] * 5
            assert all(done for _, _, done in shown)
            await running.eventually("tollway_reservations_open", 0, within_s=SOON_S_MAX)
            assert running.metrics("tollway_ledger_lag_records") == 0
            shown += [await stream(client, 20, model="faulty")]
            entries = await ledger(running, "hooli")
            assert_billed_once(entries, shown)
            [limit] = (await client.get("/v1/quota")).json()["limits"]
        billed = sum(entry.record.prompt_tokens + entry.record.completion_tokens for entry in entries)
        assert limit["used"] == billed
        assert running.metrics("tollway_tokens_total", tenant="hooli", kind="completion") == STREAMS * 400 + 20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of a few hundred kilobytes; yield a file that fills it as long as it is there."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(filler: Path) -> None:
    """Leave not one byte free."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def until_refused(client: httpx.AsyncClient, filler: Path) -> int:
    """Fill the disk and ask until its last page is full too; return how many were answered before."""
    fill(filler)
    answered = 0
    while (answer := await client.post(CHAT, json=chat(5, stream=True))).status_code == 200:
        answered += 1
        assert answered < 20
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert "log" in answer.json()["error"]["message"]
    return answered


async def test_a_full_disk_refuses_what_could_not_be_billed_and_heals_by_itself(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data" / "journal") as filler, gateway(tmp_path) as running:
        async with client_of(running) as client:
            shown = [await stream(client, 5)]
            streams = await under_way(client, 3, 1000)
            answered = await until_refused(client, filler)
            shown += await asyncio.gather(*streams)
            assert all(done for _, _, done in shown), "Redis took them"
            assert running.metrics("tollway_journal_failures_total", kind="write") > 0
            filler.unlink()
            await served_again(client)
            assert len(await ledger(running)) == len(shown) + answered + 1


async def test_with_a_full_disk_and_a_silent_redis_no_answer_ends_well_and_each_is_billed_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data" / "journal") as filler, gateway(tmp_path) as running:
        async with client_of(running) as client:
            streams = await under_way(client, 3, 2000)
            answered = await until_refused(client, filler)
            redis = running.redis_pid
            os.kill(redis, signal.SIGSTOP)
            try:
                shown = await asyncio.gather(*streams)
            finally:
                os.kill(redis, signal.SIGCONT)
            assert not any(done for _, _, done in shown)
            entries = await ledger(running, at_least=answered + 3)
            ids = {request_id for request_id, _, _ in shown}
            assert_billed_once([entry for entry in entries if entry.record.request_id in ids], shown)
            assert len(entries) == answered + 3
            filler.unlink()
            await served_again(client)
