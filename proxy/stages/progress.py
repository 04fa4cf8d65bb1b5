"""
How far each open exchange has come, noted on its reservation once a beat.

If this gateway is killed, another bills its exchanges from these notes: a beat is the most that is lost. The first note
also gives back what was reserved for the prompt and is not needed: its bytes bound it, its first frame counts it.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from engine.background import Background
from engine.usage import Usage
from proxy.errors import LedgerUnavailable
from proxy.store.reservations import Reservations
from proxy.tally import Tally

_log = logging.getLogger(__name__)


class Progress(Background):
    """
    Follows open exchanges: `async with Progress(store, ...) as progress`.

    Units: `beat_s` in seconds.
    """

    def __init__(self, store: Reservations, beat_s: float) -> None:
        super().__init__(self._beat_on, "tollway-progress")
        self._store = store
        self._beat_s = beat_s
        self._noted: dict[str, tuple[Tally, Usage]] = {}

    def __len__(self) -> int:
        """Return how many exchanges are followed."""
        return len(self._noted)

    @contextmanager
    def following(self, tally: Tally) -> Iterator[None]:
        """Note the exchange's progress for as long as the block lasts."""
        self._noted[tally.request_id] = (tally, tally.usage)
        try:
            yield
        finally:
            del self._noted[tally.request_id]

    async def beat(self) -> None:
        """Note every exchange that has moved since the last beat."""
        moved = [tally for tally, noted in self._noted.values() if tally.usage != noted]
        await asyncio.gather(*(self._note(tally) for tally in moved))

    async def _note(self, tally: Tally) -> None:
        usage = tally.usage
        assert tally.principal is not None
        try:
            counts = (usage.prompt_tokens, usage.completion_tokens)
            await self._store.progress(tally.request_id, tally.principal.tenant, counts)
            if not tally.trimmed and tally.spare and tally.call is not None:
                await self._store.trim(tally.record(), tally.call.plan.limits, tally.spare)
                tally.trimmed = True
        except LedgerUnavailable:
            _log.warning("progress_failed", exc_info=True)
        else:
            if tally.request_id in self._noted:
                self._noted[tally.request_id] = (tally, usage)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            await self.beat()
