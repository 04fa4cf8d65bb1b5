import asyncio
from pathlib import Path

import pytest

from proxy.errors import JournalUnavailable
from proxy.store.journal.folder import Folder
from proxy.store.journal.group import Append, Group, Position
from proxy.store.journal.lines import line_of
from proxy.store.journal.segment import Segment

SEGMENT = Segment(Folder(Path(), -1), Path(), 0)


async def place_of(append: Append) -> Position:
    return await append


async def test_each_entry_learns_where_it_stands() -> None:
    group = Group(asyncio.get_running_loop())
    first, second = group.add(b"a"), group.add(b"b")
    group.written(SEGMENT, 100)
    assert await first == Position(SEGMENT, 100)
    assert await second == Position(SEGMENT, 100 + len(line_of(b"a")))
    assert group.size == len(b"".join(group.lines))


async def test_each_entry_of_a_failed_write_is_told() -> None:
    group = Group(asyncio.get_running_loop())
    appends = [group.add(b"a"), group.add(b"b")]
    group.failed(OSError())
    for append in appends:
        with pytest.raises(JournalUnavailable):
            await append


async def test_one_that_is_cancelled_takes_nobody_with_it_and_is_cancelled_afterwards() -> None:
    group = Group(asyncio.get_running_loop())
    cancelled, other = (asyncio.create_task(place_of(group.add(name))) for name in (b"a", b"b"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    assert not cancelled.done()
    group.written(SEGMENT, 0)
    await asyncio.wait([cancelled, other])
    assert cancelled.cancelled()
    assert other.result().segment is SEGMENT
