"""Workers that die and hang, again and again, below a supervisor in this process: nothing of them is left."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from engine.runtime import keeper
from proxy.app import Addresses
from proxy.compose.reload import ConfigSource
from proxy.fatal import Fatal
from proxy.identity.development import mint
from proxy.settings import Settings, load
from proxy.store.journal.folder import Folder
from proxy.workers import supervisor, worker
from proxy.workers.share import TooFewSequences
from tests.exposition import total
from tests.processes import command_line, descendants
from tests.sim_process import SimProcess, running_sim

CONFIG = Path(__file__).parents[1] / "chaos" / "chaos.toml"
WORKERS = 2
BACK_S_MAX = 30.0


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with running_sim("--model", "demo") as process:
        yield process


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PAUSE_S_MIN", 0.01)
    monkeypatch.setattr(keeper, "PAUSE_S_MAX", 0.01)


def settings(folder: Path, sim: SimProcess, **more: str) -> Settings:
    replica = {"TOLLWAY__MODELS__0__REPLICAS__0__URL": f"http://{sim.address}"}
    return load(CONFIG, {"TOLLWAY__REDIS__DATA_DIR": str(folder / "data"), **replica, **more})


def source(read: Settings) -> ConfigSource:
    return ConfigSource(read, lambda: read, asyncio.Event())


@asynccontextmanager
async def served(config: ConfigSource) -> AsyncIterator[Addresses]:
    """Run the workers, which are cut at the end."""
    hurried = asyncio.Event()
    hurried.set()
    async with supervisor.running(config, WORKERS, "warning", hurried) as addresses:
        yield addresses


@asynccontextmanager
async def team(folder: Path, sim: SimProcess) -> AsyncIterator[str]:
    """Run the workers; yield where their metrics are."""
    async with served(source(settings(folder, sim))) as addresses:
        yield f"{addresses.admin_url}/metrics"


def workers() -> set[int]:
    return {pid for pid in descendants(os.getpid()) if "proxy.workers.serve" in command_line(pid)}


async def scraped(url: str) -> str:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.get(url, timeout=10)).text


async def until(url: str, *, up: int, deaths: int) -> str:
    """Wait until so many workers serve after so many deaths; return the scrape that says so."""
    async with asyncio.timeout(BACK_S_MAX):
        while True:
            text = await scraped(url)
            if (total(text, "tollway_worker_up"), total(text, "tollway_worker_deaths_total")) == (up, deaths):
                return text
            await asyncio.sleep(0.05)


def files_in(folder: Path) -> set[Path]:
    """Return every file but those of the write-ahead logs, which are told apart by their owners."""
    data = folder / "data"
    return {
        path.relative_to(data) for path in data.rglob("*") if path.is_file() and data / "journal" not in path.parents
    }


def unowned_logs(folder: Path) -> list[Path]:
    """Return the write-ahead logs that nobody who lives has taken over, to delete them once Redis surely has it all."""
    return [path for path in (folder / "data" / "journal").iterdir() if Folder.claimed(path) is not None]


@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.wide)])
async def test_restarts_leave_no_files_no_descriptors_and_no_series_behind(
    tmp_path: Path, sim: SimProcess, rounds: int
) -> None:
    async with team(tmp_path, sim) as url:
        before = await until(url, up=WORKERS, deaths=0)
        files, descriptors = files_in(tmp_path), len(os.listdir("/proc/self/fd"))
        after, beats, lines = before, total(before, "tollway_redis_seconds_count"), 0
        for killed in range(1, rounds + 1):
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
            after = await until(url, up=WORKERS, deaths=killed * WORKERS)
            beats, had = total(after, "tollway_redis_seconds_count"), beats
            assert beats > had, "what the dead had counted is kept"
            # What is done for the dead has series of its own, from the first of them on.
            lines = lines or len(after.splitlines())
        assert len(after.splitlines()) <= lines + 1
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert files_in(tmp_path) == files
        assert unowned_logs(tmp_path) == []
        assert len(workers()) == WORKERS
    assert workers() == set()


async def test_one_that_hangs_is_killed_and_replaced_and_a_scrape_does_not_wait_for_it(
    tmp_path: Path, sim: SimProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HUNG_S", 4.0)
    monkeypatch.setattr(worker, "ASK_S", 0.1)
    async with team(tmp_path, sim) as url:
        before = total(await until(url, up=WORKERS, deaths=0), "tollway_redis_seconds_count")
        hung = min(workers())
        os.kill(hung, signal.SIGSTOP)
        async with asyncio.timeout(3.5):
            text = await scraped(url)
        assert total(text, "tollway_redis_seconds_count") >= before, "what it said last counts"
        await until(url, up=WORKERS, deaths=1)
        assert hung not in workers()


async def test_one_that_is_told_to_stop_alone_hands_over_all_it_counted(tmp_path: Path, sim: SimProcess) -> None:
    async with team(tmp_path, sim) as url:
        for pid in workers():
            os.kill(pid, signal.SIGTERM)
        text = await until(url, up=WORKERS, deaths=WORKERS)
        left = total(text, "tollway_redis_seconds_count", op="zrem")
        assert left == WORKERS, "to take itself out of Redis is the last that a worker does"


async def test_more_workers_than_room_are_refused_before_anything_starts(tmp_path: Path, sim: SimProcess) -> None:
    narrow = settings(tmp_path, sim, TOLLWAY__MODELS__0__REPLICAS__0__SEQUENCES="1")
    with pytest.raises(TooFewSequences, match="demo-0 of demo has 1"):
        async with supervisor.running(source(narrow), WORKERS, "warning", asyncio.Event()):
            raise AssertionError("it started")
    assert not (tmp_path / "data").exists()


async def test_a_worker_that_cannot_start_is_one_clear_line(tmp_path: Path, sim: SimProcess) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal").write_text("in the way")
    with pytest.raises(Fatal, match="the write-ahead log cannot be kept in"):
        async with supervisor.running(source(settings(tmp_path, sim)), WORKERS, "warning", asyncio.Event()):
            raise AssertionError("it started")
    assert workers() == set()


ASKED = 12
"""Connections, each of which the kernel gives to a worker of its choice."""


class Edited:
    """A config that a test changes: how many requests the plan allows."""

    def __init__(self, folder: Path, sim: SimProcess) -> None:
        self._folder = folder
        self._sim = sim
        self.requests = 1_000

    def read(self) -> Settings:
        return settings(self._folder, self._sim, TOLLWAY__PLANS__OPEN__LIMITS__1__AMOUNT=str(self.requests))

    @property
    def source(self) -> ConfigSource:
        return ConfigSource(self.read(), self.read, asyncio.Event())


async def reload(addresses: Addresses) -> httpx.Response:
    async with httpx.AsyncClient(verify=False, timeout=30) as client:
        headers = {"content-type": "application/json"}
        return await client.post(f"{addresses.admin_url}/admin/reload", headers=headers)


async def allowed(addresses: Addresses, edited: Edited) -> set[int]:
    """Return how many requests the workers say that the plan allows."""
    token = mint(edited.read(), tenant="acme", user="ada")
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(verify=False, timeout=30, limits=limits) as client:
        headers = {"authorization": f"Bearer {token}"}
        asked = (client.get(f"{addresses.public_url}/v1/quota", headers=headers) for _ in range(ASKED))
        return {answer.json()["limits"][1]["limit"] for answer in await asyncio.gather(*asked)}


async def test_a_worker_that_is_born_during_reloads_has_the_last_config_when_it_serves(
    tmp_path: Path, sim: SimProcess
) -> None:
    edited = Edited(tmp_path, sim)
    async with served(edited.source) as addresses:
        url = f"{addresses.admin_url}/metrics"
        await until(url, up=WORKERS, deaths=0)
        assert await allowed(addresses, edited) == {1_000}
        for killed in range(1, 4):
            os.kill(min(workers()), signal.SIGKILL)
            for _ in range(3):
                edited.requests += 1
                answer = await reload(addresses)
                if answer.status_code == 422:
                    assert "does not answer" in answer.text, "it died while it was asked"
                    assert (await reload(addresses)).status_code == 200
                await asyncio.sleep(0.2)
            await until(url, up=WORKERS, deaths=killed)
            assert await allowed(addresses, edited) == {edited.requests}


async def test_a_worker_that_does_not_answer_and_all_keep_the_config_that_they_have(
    tmp_path: Path, sim: SimProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STEP_S_MAX", 1.0)
    edited = Edited(tmp_path, sim)
    async with served(edited.source) as addresses:
        url = f"{addresses.admin_url}/metrics"
        await until(url, up=WORKERS, deaths=0)
        hung = min(workers())
        os.kill(hung, signal.SIGSTOP)
        edited.requests = 2_000
        answer = await reload(addresses)
        os.kill(hung, signal.SIGCONT)
        assert answer.status_code == 422
        [fault] = answer.json()["faults"]
        assert fault["message"].endswith(" does not answer")
        assert await allowed(addresses, edited) == {1_000}
        assert (await reload(addresses)).status_code == 200
        assert await allowed(addresses, edited) == {2_000}
        await until(url, up=WORKERS, deaths=0)
