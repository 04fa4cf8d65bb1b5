"""Several workers on one port, as clients, operators and finance meet them: one gateway, whoever of it dies."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import READY_S_MAX, TOLLWAY, Running, gateway_of
from tests.exposition import samples
from tests.processes import GONE_S_MAX, command_line, descendants, wait_until_gone

CONFIG = Path(__file__).with_name("workers.toml")
WORKERS = 3
SWEPT_S_MAX = 30.0
BACK_S_MAX = 15.0


def team(folder: Path, workers: int = WORKERS, **environment: str) -> AbstractContextManager[Running]:
    return gateway_of(CONFIG, folder, workers=workers, environment=environment)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with team(tmp_path_factory.mktemp("team")) as running:
        yield running


def workers_of(running: Running) -> set[int]:
    return {pid for pid in descendants(running.process.pid) if "proxy.workers.serve" in command_line(pid)}


def http(running: Running, user: str, plan: str = "open") -> httpx.AsyncClient:
    """Return a client that asks each time on a connection of its own, since a connection has one worker for life."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return running.client(running.bearer("acme", user, plan), limits=limits)


def replicas_of(running: Running) -> list[dict[str, Any]]:
    """Return what operators are shown of the replicas."""
    shown: list[dict[str, Any]] = json.loads(running.admin("/admin/replicas"))["data"]
    return shown


def exchanges(running: Running, user: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (running.folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == "exchange" and line["user"] == user]


async def test_every_worker_serves_and_one_endpoint_tells_the_sum(shared: Running) -> None:
    async with http(shared, "summed") as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat(3)) for _ in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    used = [answer.json()["usage"] for answer in answers]
    await shared.eventually("tollway_reservations_open", 0, within_s=5)
    served_by = Counter(line["incarnation"] for line in exchanges(shared, "summed"))
    assert len(served_by) == WORKERS, served_by
    assert served_by.total() == 60
    for kind in ("prompt", "completion"):
        billed = sum(usage[f"{kind}_tokens"] for usage in used)
        assert shared.metrics("tollway_user_tokens_total", user="summed", kind=kind) == billed
    [row] = [row for row in shared.usage("user") if row["user"] == "summed"]
    assert row["requests"] == 60
    assert row["completion_tokens"] == sum(usage["completion_tokens"] for usage in used)
    assert shared.metrics("tollway_requests_total") == len(await shared.ledger())
    assert shared.metrics("tollway_worker_up") == WORKERS
    assert shared.metrics("tollway_build_info") == 1


async def test_a_quota_is_one_over_all_workers(shared: Running) -> None:
    async with http(shared, "counted", plan="counted") as client:
        answers = await asyncio.gather(*(client.post(CHAT, json=chat(1)) for _ in range(60)))
    assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 40}


async def test_operators_see_what_all_workers_hold_together(shared: Running) -> None:
    async with http(shared, "held") as client:
        asked = [asyncio.create_task(client.post(CHAT, json=chat(100))) for _ in range(12)]
        deadline = time.monotonic() + 20
        while sum(replica["inflight_sequences"] for replica in replicas_of(shared)) < 12:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        replicas = replicas_of(shared)
        assert [replica["name"] for replica in replicas] == ["demo-0", "demo-1"]
        assert all(r["healthy"] and r["free_sequences"] + r["inflight_sequences"] == 256 for r in replicas)
        assert shared.metrics("tollway_inflight_requests") == 12
        await asyncio.gather(*asked)
    await shared.eventually("tollway_inflight_requests", 0, within_s=5)


def test_a_port_that_workers_share_is_no_other_gateways(shared: Running, tmp_path: Path) -> None:
    port = shared.url.rpartition(":")[2]
    environment = {"TOLLWAY__REDIS__DATA_DIR": str(tmp_path / "data"), "TOLLWAY__LISTEN__PORT": port}
    for workers in ("1", "2"):
        refused = started(environment, workers, tmp_path)
        assert refused.returncode == 1
        assert refused.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_worker_that_cannot_start_ends_the_start_with_one_line(tmp_path: Path) -> None:
    environment = {
        "TOLLWAY__REDIS__DATA_DIR": str(tmp_path / "data"),
        "TOLLWAY__REDIS__URL": f"unix://{tmp_path}/nobody.sock",
    }
    refused = started(environment, "2", tmp_path)
    assert refused.returncode == 1
    [line] = [line for line in refused.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("Error: Redis does not answer")
    assert refused.stdout == ""


@pytest.mark.parametrize("later_s", [0.0, 0.3, 0.6])
def test_a_signal_gives_up_a_start_whose_workers_are_not_ready(tmp_path: Path, later_s: float) -> None:
    environment = {**os.environ, "TOLLWAY__REDIS__DATA_DIR": str(tmp_path / "data")}
    command = [str(TOLLWAY), "up", "--config", str(CONFIG), "--workers", "2"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=log)
    try:
        deadline = time.monotonic() + READY_S_MAX
        while not any("proxy.workers.serve" in command_line(pid) for pid in descendants(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(later_s)
        begun = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GONE_S_MAX) == 0
        wait_until_gone(begun)
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()


def started(environment: dict[str, str], workers: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(TOLLWAY), "up", "--config", str(CONFIG), "--workers", workers]
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@dataclass
class Stream:
    """What one client was told."""

    request_id: str = ""
    ended: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, client: httpx.AsyncClient, tokens: int) -> None:
        try:
            async with client.stream("POST", CHAT, json=chat(tokens, stream=True)) as answer:
                assert answer.status_code == 200
                self.request_id = answer.headers["x-request-id"]
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        self.begun.set()
                    self.ended |= line == "data: [DONE]"
        except httpx.TransportError:
            pass


async def begun(streams: list[Stream]) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(stream.begun.wait() for stream in streams))


def counters(running: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (name, frozenset(labels.items())): value
        for name, labels, value in samples(running.admin("/metrics"))
        if name.endswith(("_total", "_count", "_sum", "_bucket"))
    }


async def test_a_worker_killed_under_streams_is_replaced_and_every_stream_is_billed_once(folder: Path) -> None:
    with team(folder, workers=2) as running:
        async with http(running, "mortal") as client:
            assert (await client.post(CHAT, json=chat(3))).status_code == 200
            streams = [Stream() for _ in range(24)]
            reading = [asyncio.create_task(stream.read(client, 100)) for stream in streams]
            await begun(streams)
            await asyncio.sleep(1.2)
            before = counters(running)
            victim = min(workers_of(running))
            os.kill(victim, signal.SIGKILL)
            killed_at = time.monotonic()
            while len(workers_of(running) - {victim}) < 2 or running.metrics("tollway_worker_up") < 2:
                now = counters(running)
                assert {key: (value, now.get(key)) for key, value in before.items() if now.get(key, -1) < value} == {}
                before = now
                assert time.monotonic() < killed_at + BACK_S_MAX, "it was not replaced"
                await asyncio.sleep(0.1)
            await asyncio.gather(*reading)
            assert {stream.ended for stream in streams} == {True, False}, "some were its, some its sibling's"
            assert running.metrics("tollway_worker_deaths_total") == 1
            answers = await asyncio.gather(*(client.post(CHAT, json=chat(1)) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
        while len(rows := await running.ledger()) < 45:
            assert time.monotonic() < killed_at + SWEPT_S_MAX, f"{len(rows)} rows"
            await asyncio.sleep(0.2)
        assert {entry.kind for entry in rows} == {"FINAL"}
        bills = Counter(entry.record.request_id for entry in rows)
        assert set(bills.values()) == {1}
        outcomes = {entry.record.request_id: entry.record for entry in rows}
        for stream in streams:
            record = outcomes[stream.request_id]
            assert (record.outcome == "ok") is stream.ended
            assert 0 < record.completion_tokens <= 100
        await running.eventually("tollway_requests_total", 45, within_s=5)
        now = counters(running)
        assert all(now[key] >= value for key, value in before.items())


async def test_sigterm_lets_the_streams_of_every_worker_end(folder: Path) -> None:
    with team(folder, workers=2) as running:
        async with http(running, "drained") as client:
            streams = [Stream() for _ in range(12)]
            reading = [asyncio.create_task(stream.read(client, 100)) for stream in streams]
            await begun(streams)
            started = descendants(running.process.pid)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*reading)
        assert all(stream.ended for stream in streams)
        assert await asyncio.to_thread(running.process.wait, GONE_S_MAX) == 0
        wait_until_gone(started)
        assert Counter(line["outcome"] for line in exchanges(running, "drained")) == {"ok": 12}
        assert "exception" not in (folder / "log").read_text()


async def test_a_second_signal_cuts_the_streams_of_every_worker(folder: Path) -> None:
    with team(folder, workers=2) as running:
        async with http(running, "hurried") as client:
            streams = [Stream() for _ in range(12)]
            reading = [asyncio.create_task(stream.read(client, 1_500)) for stream in streams]
            await begun(streams)
            running.process.send_signal(signal.SIGTERM)
            await running.until_refused()
            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                await asyncio.gather(*reading)
        assert await asyncio.to_thread(running.process.wait, GONE_S_MAX) == 0
        assert Counter(line["outcome"] for line in exchanges(running, "hurried")) == {"shutdown": 12}


async def test_a_supervisor_killed_leaves_nothing_running_and_the_next_start_bills_what_it_left(folder: Path) -> None:
    with team(folder, workers=2) as running:
        async with http(running, "orphaned") as client:
            streams = [Stream() for _ in range(6)]
            reading = [asyncio.create_task(stream.read(client, 1_000)) for stream in streams]
            await begun(streams)
            await asyncio.sleep(1.2)
            started = descendants(running.process.pid)
            assert len(started) == 5, "a Redis, two replicas, two workers"
            running.process.kill()
            running.process.wait(GONE_S_MAX)
            wait_until_gone(started)
            await asyncio.gather(*reading)
    with team(folder, workers=2) as again:
        deadline = time.monotonic() + SWEPT_S_MAX
        while len(rows := await again.ledger()) < 6:
            assert time.monotonic() < deadline, f"{len(rows)} rows"
            await asyncio.sleep(0.2)
        assert Counter(entry.record.request_id for entry in rows) == {stream.request_id: 1 for stream in streams}
