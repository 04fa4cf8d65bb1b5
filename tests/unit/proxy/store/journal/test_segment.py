import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.journal.folder import Folder
from proxy.store.journal.lines import line_of
from proxy.store.journal.segment import Segment


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder.made(tmp_path, "a")
    yield made
    made.release()


def test_what_is_appended_is_read(folder: Folder) -> None:
    segment = Segment.made(folder, 1)
    first = segment.append(line_of(b"a") + line_of(b"bb"))
    second = segment.append(line_of(b"c"))
    assert segment.size == segment.path.stat().st_size
    assert segment.entries() == (first, first + len(line_of(b"a")), second)
    assert segment.read([second, first]) == [b"c", b"a"]
    assert segment.read([first + 1, 10_000]) == [None, None]
    segment.delete()
    assert not segment.path.exists()


def test_a_write_returns_only_when_it_is_on_the_disk(folder: Folder) -> None:
    segment = Segment.made(folder, 1)
    assert segment._fd is not None
    assert fcntl.fcntl(segment._fd, fcntl.F_GETFL) & os.O_DSYNC
    segment.close()


def test_it_is_nobody_elses_to_read(folder: Folder) -> None:
    segment = Segment.made(folder, 1)
    segment.close()
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600


def test_a_write_that_fails_half_way_is_cut_away_and_nothing_comes_behind_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment.made(folder, 1)
    segment.append(line_of(b"a"))
    write, calls = os.write, [5]

    def fills(fd: int, data: bytes) -> int:
        if not calls:
            raise OSError(28, "No space left on device")
        return write(fd, data[: calls.pop()])

    monkeypatch.setattr(os, "write", fills)
    with pytest.raises(OSError, match="No space"):
        segment.append(line_of(b"b"))
    assert segment.path.read_bytes() == line_of(b"a")
    assert not segment.open


def test_found_again_its_entries_are_owed_and_a_torn_tail_is_gone(folder: Folder) -> None:
    lines = [line_of(b"a"), line_of(b"damaged"), line_of(b"c")]
    path = folder.path / "00000001.wal"
    path.write_bytes(lines[0] + b"x" + lines[1][1:] + lines[2] + line_of(b"torn")[:-1])
    segment, damaged = Segment.found(folder, path)
    assert (segment.unsettled, segment.read(segment.owed)) == (2, [b"a", b"c"])
    assert damaged == [b"x" + lines[1][1:]]
    assert path.stat().st_size == segment.size == sum(map(len, lines))
    assert not segment.open
