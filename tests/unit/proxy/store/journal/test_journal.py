"""The log as its owner sees it: on a real disk, full ones and hanging ones included."""

import asyncio
import errno
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.errors import JournalUnavailable
from proxy.store.journal import journal as module
from proxy.store.journal import writer
from proxy.store.journal.failure import Failure
from proxy.store.journal.folder import DAMAGED
from proxy.store.journal.group import Position
from proxy.store.journal.journal import Journal
from proxy.store.journal.lines import line_of
from proxy.store.journal.segment import ROOM_BYTES, Segment

BIG = b"x" * 100_000


@pytest.fixture
def failures() -> list[Failure]:
    return []


@pytest.fixture
async def journal(tmp_path: Path, failures: list[Failure]) -> AsyncIterator[Journal]:
    async with Journal(tmp_path, "living", failed=failures.append) as opened:
        yield opened


async def append(journal: Journal, *payloads: bytes) -> None:
    await asyncio.gather(*(one(journal, payload) for payload in payloads))


async def one(journal: Journal, payload: bytes) -> None:
    journal.owe(await journal.append(payload))


async def payloads(journal: Journal) -> list[bytes | None]:
    return [found for segment in journal.segments for found in await journal.read(segment, segment.owed)]


async def left(root: Path, name: str, *texts: bytes) -> Path:
    """Leave a log as a dead incarnation does; return its one segment."""
    async with Journal(root, name) as dead:
        await append(dead, *texts)
        [segment] = dead.segments
    return segment.path


async def healed(journal: Journal) -> None:
    async with asyncio.timeout(20):
        while not journal.writable:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@contextmanager
def file_bytes_max(size: int) -> Iterator[None]:
    """Have every write beyond this size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_what_is_appended_is_on_the_disk(journal: Journal, tmp_path: Path) -> None:
    await append(journal, b"a", b"b")
    [file] = (tmp_path / "living").glob("*.wal")
    assert file.read_bytes() == line_of(b"a") + line_of(b"b")
    assert (journal.unsettled, journal.owed, journal.size) == (2, 2, file.stat().st_size)


async def test_what_comes_while_the_disk_is_busy_shares_one_write(tmp_path: Path) -> None:
    writes: list[float] = []
    async with Journal(tmp_path, "living", observe=writes.append) as journal:
        await append(journal, *(b"%d" % number for number in range(64)))
        assert len(writes) == 1
        go = threading.Event()
        journal._thread.submit(go.wait, lambda result, fault: None)
        appends = [asyncio.create_task(one(journal, b"%d" % number)) for number in range(64)]
        await asyncio.sleep(0.02)
        appends += [asyncio.create_task(one(journal, b"%d" % number)) for number in range(64)]
        await asyncio.sleep(0.02)
        go.set()
        await asyncio.gather(*appends)
    assert len(writes) == 3


async def test_a_clean_end_without_entries_leaves_nothing(tmp_path: Path) -> None:
    async with Journal(tmp_path, "living"):
        pass
    assert os.listdir(tmp_path) == []


async def test_a_living_log_is_left_alone_and_a_dead_ones_entries_are_owed(tmp_path: Path, journal: Journal) -> None:
    await left(tmp_path, "dead", b"a", b"b")
    async with Journal(tmp_path, "other") as other:
        await append(other, b"c")
        assert await journal.adopt() == 2
        assert await journal.adopt() == 0
    assert await payloads(journal) == [b"a", b"b"]
    assert await journal.adopt() == 1


async def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path, journal: Journal) -> None:
    for kept in range(1, len(line_of(b"last"))):
        path = await left(tmp_path, f"dead-{kept:02}", b"%d" % kept, b"last")
        with path.open("r+b") as file:
            file.truncate(len(line_of(b"%d" % kept)) + kept)
    await journal.adopt()
    assert await payloads(journal) == [b"%d" % kept for kept in range(1, len(line_of(b"last")))]


async def test_damage_is_told_and_kept_aside_and_the_rest_is_owed(
    tmp_path: Path, journal: Journal, failures: list[Failure]
) -> None:
    path = await left(tmp_path, "dead", b"a", b"b", b"c")
    data = path.read_bytes()
    path.write_bytes(data.replace(line_of(b"b"), b"?" + line_of(b"b")[1:]))
    await journal.adopt()
    assert await payloads(journal) == [b"a", b"c"]
    [aside] = (tmp_path / DAMAGED).iterdir()
    assert aside.read_bytes() == b"?" + line_of(b"b")[1:]
    assert failures == [Failure.DAMAGE]


async def test_damage_that_comes_later_is_told(journal: Journal, failures: list[Failure]) -> None:
    await append(journal, b"a")
    [segment] = journal.segments
    segment.path.write_bytes(b"?")
    assert await payloads(journal) == [None]
    assert failures == [Failure.DAMAGE]


async def test_an_orphan_that_cannot_be_opened_is_told_and_left(
    tmp_path: Path, journal: Journal, failures: list[Failure]
) -> None:
    path = await left(tmp_path, "dead", b"a")
    hidden = path.rename(path.with_name("hidden"))
    path.mkdir()
    assert await journal.adopt() == 0
    path.rmdir()
    hidden.rename(path)
    assert await journal.adopt() == 1
    assert failures == [Failure.DAMAGE]


async def test_segments_rotate_by_size_and_go_once_they_are_settled_and_old(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES_MAX", 1)
    places = [await journal.append(b"a") for _ in range(3)]
    assert len({place.segment for place in places}) == 3
    for place in places[:2]:
        journal.settled(place)
    assert await journal.trim(time.monotonic() - 60) == 0, "not for long enough"
    assert await journal.trim(time.monotonic() + 1) == 2
    assert journal.segments == (places[2].segment,)
    assert [path.name for path in places[2].segment.path.parent.glob("*.wal")] == [places[2].segment.path.name]
    journal.settled(places[2])
    assert await journal.trim(time.monotonic() + 1) == 1
    assert (journal.size, journal.unsettled) == (0, 0)
    await append(journal, b"b")


async def test_segments_rotate_by_age(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    await append(journal, b"a")
    monkeypatch.setattr(writer, "SEGMENT_S", 0)
    await append(journal, b"b")
    assert len(journal.segments) == 2


async def test_what_is_settled_does_not_fill_the_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES_MAX", 10 * len(BIG))
    for _ in range(100):
        journal.settled(await journal.append(BIG))
        await journal.trim(time.monotonic())
        assert journal.size <= 11 * len(line_of(BIG))


async def test_an_adopted_folder_goes_with_its_last_segment(tmp_path: Path, journal: Journal) -> None:
    path = await left(tmp_path, "dead", b"a")
    await journal.adopt()
    [segment] = journal.segments
    [place] = await journal.entries(segment)
    segment.owed.remove(place)
    journal.settled(Position(segment, place))
    await journal.trim(time.monotonic() + 1)
    assert not path.parent.exists()


async def test_a_full_disk_refuses_at_once_and_heals_by_itself(
    journal: Journal, failures: list[Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAL_S", 0.01)
    await append(journal, b"before")
    with file_bytes_max(ROOM_BYTES // 2):
        results = await asyncio.gather(*(one(journal, BIG) for _ in range(4)), return_exceptions=True)
        assert [type(result) for result in results] == [JournalUnavailable] * 4
        assert not journal.writable
        with pytest.raises(JournalUnavailable):
            await journal.append(b"small enough")
        async with asyncio.timeout(20):
            while len(failures) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert not journal.writable
    await healed(journal)
    await append(journal, b"after")
    assert await payloads(journal) == [b"before", b"after"]
    assert set(failures) == {Failure.WRITE}


async def test_what_failed_is_not_found_by_the_next_start(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal(tmp_path, "full") as full:
        await append(full, b"before")
        with file_bytes_max(1000), pytest.raises(JournalUnavailable):
            await full.append(BIG)
    await journal.adopt()
    assert await payloads(journal) == [b"before"]


async def test_a_disk_that_hangs_fails_in_time_and_what_it_wrote_late_is_taken_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAL_S", 0.01)
    await append(journal, b"before")
    go, really = threading.Event(), Segment.append

    def hangs(segment: Segment, data: bytes) -> int:
        go.wait()
        return really(segment, data)

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "append", hangs)
        # Only for what hangs: on a busy machine a write that works may take as long.
        patch.setattr(module, "WRITE_S_MAX", 0.02)
        writing = asyncio.create_task(one(journal, b"late"))
        await asyncio.sleep(0.005)
        waiting = asyncio.create_task(one(journal, b"behind it"))
        for task in (writing, waiting):
            with pytest.raises(JournalUnavailable):
                await task
        assert not journal.writable
    go.set()
    await healed(journal)
    await append(journal, b"after")
    assert await payloads(journal) == [b"before", b"after"]
    assert [journal._segments[0].path.read_bytes()] == [line_of(b"before")]


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        async with Journal(tmp_path / "file", "living"):
            pass


async def test_a_start_on_a_full_disk_is_told(tmp_path: Path) -> None:
    with file_bytes_max(1000), pytest.raises(OSError) as told:
        async with Journal(tmp_path, "living"):
            pass
    assert told.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


async def until_made_again(journal: Journal, failures: list[Failure]) -> None:
    """Wait until it is noticed that somebody removed the log; a second at most."""
    async with asyncio.timeout(1.0):
        while Failure.REMOVED not in failures:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["", "living", "living/lock", "living/00000001.wal"])
async def test_what_somebody_removes_is_made_again_within_a_second_with_all_that_it_had(
    journal: Journal, tmp_path: Path, failures: list[Failure], what: str
) -> None:
    await append(journal, b"one", b"two")
    removed = tmp_path / what
    shutil.rmtree(removed) if removed.is_dir() else removed.unlink()
    await until_made_again(journal, failures)
    await append(journal, b"three")
    assert await payloads(journal) == [b"one", b"two", b"three"]
    assert (tmp_path / "living" / "00000001.wal").read_bytes() == line_of(b"one") + line_of(b"two") + line_of(b"three")
    async with Journal(tmp_path, "another") as another:
        assert await another.adopt() == 0, "it is owned as before"


async def test_what_was_moved_away_is_missed_too(journal: Journal, tmp_path: Path, failures: list[Failure]) -> None:
    await append(journal, b"one")
    (tmp_path / "living").rename(tmp_path / ".elsewhere")
    await until_made_again(journal, failures)
    assert await payloads(journal) == [b"one"]


async def test_where_it_cannot_be_made_again_nothing_is_appended_until_it_can(
    tmp_path: Path, failures: list[Failure]
) -> None:
    root = tmp_path / "journal"
    async with Journal(root, "living", failed=failures.append) as journal:
        await append(journal, b"one")
        shutil.rmtree(root)
        root.write_text("in the way")
        async with asyncio.timeout(1.0):
            while journal.writable:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(JournalUnavailable):
            await journal.append(b"two")
        root.unlink()
        await healed(journal)
        await append(journal, b"three")
        assert (await payloads(journal))[-1] == b"three"
        assert b"three" in b"".join(path.read_bytes() for path in root.glob("living/*.wal"))


async def test_settlements_in_an_older_file_that_is_gone_are_told(
    tmp_path: Path, journal: Journal, failures: list[Failure], caplog: pytest.LogCaptureFixture
) -> None:
    await left(tmp_path, "dead", b"one", b"two")
    assert await journal.adopt() == 2
    shutil.rmtree(tmp_path)
    await until_made_again(journal, failures)
    async with asyncio.timeout(1.0):
        while journal.segments:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [line.entries for line in caplog.records if line.message == "journal_lost"] == [2]  # type: ignore[attr-defined]
    assert journal.unsettled == 0
