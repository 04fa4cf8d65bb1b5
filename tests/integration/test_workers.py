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
from proxy.fatal import Fatal
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


@asynccontextmanager
async def team(folder: Path, sim: SimProcess) -> AsyncIterator[str]:
    """Run the workers; yield where their metrics are."""
    hurried = asyncio.Event()
    hurried.set()
    async with supervisor.running(settings(folder, sim), WORKERS, "warning", hurried) as addresses:
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
        after, beats = before, total(before, "tollway_redis_seconds_count")
        for killed in range(1, rounds + 1):
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
            after = await until(url, up=WORKERS, deaths=killed * WORKERS)
            beats, had = total(after, "tollway_redis_seconds_count"), beats
            assert beats > had, "what the dead had counted is kept"
        assert len(after.splitlines()) <= len(before.splitlines()) + 1
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
        async with supervisor.running(narrow, WORKERS, "warning", asyncio.Event()):
            raise AssertionError("it started")
    assert not (tmp_path / "data").exists()


async def test_a_worker_that_cannot_start_is_one_clear_line(tmp_path: Path, sim: SimProcess) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal").write_text("in the way")
    with pytest.raises(Fatal, match="the write-ahead log cannot be kept in"):
        async with supervisor.running(settings(tmp_path, sim), WORKERS, "warning", asyncio.Event()):
            raise AssertionError("it started")
    assert workers() == set()
