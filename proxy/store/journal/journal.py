"""
The write-ahead log of one incarnation: entries are appended here before anybody is told that they are settled.

Rules:
- Appends that come while the disk is busy share the next write: nobody waits longer than the write under way and its
  own, and the disk is asked once for all of them.
- While it cannot be written every append fails at once; a new segment is tried each second until one can be made.
- It is looked after each half second, whether or not anything is written: where somebody removed it, it is made again,
  with what the present segment had, or cannot be written.
- A segment goes once all of its entries are known to be settled, and its owner says that this has lasted. So on a disk
  that works and with a Redis that answers it holds the entries of about `writer.SEGMENT_S` + the owner's horizon; while
  Redis is away it grows by one line for each settle.

This is the event loop's side; what waits for the disk is `writer`, in a thread of its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.store.journal.failure import Failure
from proxy.store.journal.group import Append, Group, Position
from proxy.store.journal.segment import Segment
from proxy.store.journal.thread import Thread
from proxy.store.journal.writer import Writer

WRITE_S_MAX = 2.0
"""A write that takes longer has failed: the disk hangs."""
LOOK_S = 0.5
"""Between two looks whether it is there still."""
HEAL_S = 1.0
"""Between two tries while it cannot be written."""

_log = logging.getLogger(__name__)


class Journal:
    """
    `async with Journal(root, name) as journal` owns `root/name`; `adopt` takes over what dead incarnations left.

    `observe` is told the seconds of each write, `failed` the kind of each failure.
    Raises: OSError on entry, when the folder cannot be made.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        observe: Callable[[float], None] = lambda seconds: None,
        failed: Callable[[Failure], None] = lambda kind: None,
    ) -> None:
        self._writer = Writer(root, name, observe=observe, failed=self._failed_in_thread)
        self._failed = failed
        self._segments: list[Segment] = []
        self._waiting: Group | None = None
        self._writing: Group | None = None
        self._fault: BaseException | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._heal: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Own a new folder and be ready to append."""
        self._loop = asyncio.get_running_loop()
        self._thread = Thread("tollway-journal")
        try:
            await self._thread.run(self._writer.begin)
        except OSError:
            await self._thread.stop()
            raise
        self._look_later()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every file; what is not settled is found by the next start."""
        for timer in (self._watch, self._heal, self._look):
            if timer is not None:
                timer.cancel()
        self._thread.submit(self._writer.close, lambda _, fault: None)
        await self._thread.stop()
        own = self._writer.folder
        folders = {segment.folder for segment in self._segments}
        for folder in folders - {own}:
            folder.release()
        if own in folders:
            own.release()
        else:
            own.delete()

    @property
    def writable(self) -> bool:
        """Tell whether the last that was tried could be written."""
        return self._fault is None

    @property
    def why(self) -> str:
        """Return in the system's words why it cannot be written; empty while it can."""
        fault = self._fault
        if fault is None:
            return ""
        return fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the segments, those of dead incarnations too."""
        return tuple(self._segments)

    @property
    def unsettled(self) -> int:
        """Return how many entries are on the disk and not known to be settled."""
        return sum(segment.unsettled for segment in self._segments)

    @property
    def owed(self) -> int:
        """Return how many entries must be sent again."""
        return sum(len(segment.owed) for segment in self._segments)

    @property
    def size(self) -> int:
        """Return how many bytes of entries are on the disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, payload: bytes) -> Append:
        """Begin to append a payload without a line end in it; the answer is awaited."""
        group = self._waiting
        if group is None:
            group = Group(self._loop)
            if self._fault is not None:
                append = group.add(payload)
                group.failed(self._fault)
                return append
            self._waiting = group
            if self._writing is None:
                # Not at once: what else is ready in this turn of the loop goes with it.
                self._loop.call_soon(self._write_next)
        return group.add(payload)

    def owe(self, place: Position) -> None:
        """Note that an entry must be sent again."""
        place.segment.owed.append(place.start)

    def settled(self, place: Position) -> None:
        """Note that an entry is settled."""
        segment = place.segment
        segment.unsettled -= 1
        segment.settled_at = time.monotonic()

    async def read(self, segment: Segment, places: Sequence[int]) -> list[bytes | None]:
        """Return the payloads at these places; None, told as damage, for what is not what was written."""
        found = await self._thread.run(partial(segment.read, places))
        for place, payload in zip(places, found, strict=True):
            if payload is None:
                _log.error("journal_damaged", extra={"path": str(segment.path), "place": place})
                self.damaged()
        return found

    def damaged(self) -> None:
        """Count an entry that cannot be read."""
        self._failed(Failure.DAMAGE)

    async def entries(self, segment: Segment) -> tuple[int, ...]:
        """Return where every entry of a segment begins, settled or not."""
        return await self._thread.run(segment.entries)

    async def adopt(self) -> int:
        """Take over the segments of every incarnation that has ended; return how many entries are owed thereby."""
        adopted = await self._thread.run(self._writer.adopted)
        self._segments = adopted + self._segments
        return sum(segment.unsettled for segment in adopted)

    def orphaned(self) -> list[str]:
        """Return the incarnations that `adopt` found dead, by their locks, since this was asked last."""
        found, self._writer.orphaned = self._writer.orphaned, []
        return found

    async def trim(self, settled_before: float) -> int:
        """Delete the segments of which nothing is owed or doubted since then (monotonic seconds); return how many."""
        await self._thread.run(self._writer.close_old)
        gone = [each for each in self._segments if not (each.open or each.unsettled or each.doubted)]
        gone = [each for each in gone if each.settled_at < settled_before]
        kept = [each for each in self._segments if each not in gone]
        empty = {each.folder for each in gone} - {each.folder for each in kept} - {self._writer.folder}

        def delete() -> None:
            for segment in gone:
                segment.delete()
            for folder in empty:
                folder.delete()

        await self._thread.run(delete)
        self._segments = [each for each in self._segments if each not in gone]
        return len(gone)

    def _failed_in_thread(self, kind: Failure) -> None:
        self._loop.call_soon_threadsafe(self._failed, kind)

    def _write_next(self) -> None:
        group, self._waiting = self._waiting, None
        if group is None:
            return
        self._writing = group
        self._watch = self._loop.call_later(WRITE_S_MAX, self._hangs, group)
        self._thread.submit(partial(self._writer.write, group.lines), partial(self._told, group))

    def _told(self, group: Group, written: tuple[Segment, int] | None, fault: Exception | None) -> None:
        assert self._watch is not None
        self._watch.cancel()
        self._writing = None
        if group.done():
            # It was given up; nobody counts on these entries, and what is not counted must not be sent.
            if written is not None:
                self._thread.submit(partial(self._writer.take_back, *written), lambda _, fault: None)
        elif written is None:
            assert fault is not None
            self._fail(fault, group)
        else:
            segment, start = written
            if segment not in self._segments[-1:]:
                self._segments.append(segment)
            segment.unsettled += len(group.lines)
            group.written(segment, start)
            self._write_next()

    def _hangs(self, group: Group) -> None:
        self._fail(TimeoutError(f"the disk did not answer within {WRITE_S_MAX:g} s"), group)

    def _look_later(self) -> None:
        self._look = self._loop.call_later(LOOK_S, self._look_now)

    def _look_now(self) -> None:
        self._thread.submit(self._looked_after, self._looked)

    def _looked_after(self) -> list[Segment]:
        """Look whether it is there; return which segments somebody removed."""
        self._writer.look()
        removed, self._writer.removed = self._writer.removed, False
        return [each for each in self._segments if not each.path.exists()] if removed else []

    def _looked(self, removed: list[Segment] | None, fault: Exception | None) -> None:
        self._look_later()
        if fault is not None and self._fault is None:
            self._fail(fault)
        for segment in removed or ():
            if segment.unsettled:
                _log.error("journal_lost", extra={"path": str(segment.path), "entries": segment.unsettled})
                self._failed(Failure.DAMAGE)
        self._segments = [each for each in self._segments if each not in (removed or ())]

    def _fail(self, fault: BaseException, group: Group | None = None) -> None:
        reason = str(fault) if isinstance(fault, OSError) else None
        _log.error("journal_failed", exc_info=fault, extra={"reason": reason})
        self._failed(Failure.WRITE)
        self._fault = fault
        if group is not None:
            group.failed(fault)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.failed(fault)
        self._heal = self._loop.call_later(HEAL_S, self._try_to_heal)

    def _try_to_heal(self) -> None:
        self._thread.submit(self._writer.make, self._healed)

    def _healed(self, _: None, fault: Exception | None) -> None:
        if fault is None:
            self._fault = None
            _log.warning("journal_healed")
        else:
            self._failed(Failure.WRITE)
            self._heal = self._loop.call_later(HEAL_S, self._try_to_heal)
