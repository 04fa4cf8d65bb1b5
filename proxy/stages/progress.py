"""
How far each open exchange has come, and on which replica, noted on its reservation once a beat.

If this gateway is killed, another bills its exchanges from these notes: a beat is the most that is lost. The first note
also gives back what was reserved for the prompt and is not needed: its bytes bound it, its first frame counts it.
"""

import asyncio
import logging
from types import TracebackType

from engine.protocols.usage import Usage
from engine.runtime.background import Background
from proxy.errors import LedgerUnavailable
from proxy.exchange_state import ExchangeState
from proxy.store.reservations import Reservations

_log = logging.getLogger(__name__)

_Stage = tuple[int, Usage]
"""Which attempt, and what it has used."""
_BEGUN: _Stage = 0, Usage()


class Progress(Background):
    """
    Follows open exchanges: `async with Progress(store, ...) as progress`.

    Units: `beat_s` in seconds.
    """

    def __init__(self, store: Reservations, beat_s: float) -> None:
        super().__init__(self._beat_on, "tollway-progress")
        self._store = store
        self._beat_s = beat_s
        self._followed: dict[str, Followed] = {}

    def __len__(self) -> int:
        """Return how many exchanges are followed."""
        return len(self._followed)

    def following(self, state: ExchangeState) -> "Followed":
        """Note the exchange's progress for as long as the block lasts."""
        return Followed(self._followed, state)

    async def beat(self) -> None:
        """Note every exchange that has moved since the last beat."""
        moved = [each for each in self._followed.values() if _stage(each.state) != each.noted]
        await asyncio.gather(*map(self._note, moved))

    async def _note(self, followed: "Followed") -> None:
        state = followed.state
        stage = _stage(state)
        try:
            await self._store.progress(state.record())
            if not followed.trimmed:
                followed.trimmed = await self._trim(state)
        except LedgerUnavailable as fault:
            if not fault.told:
                _log.warning("progress_failed", exc_info=True)
        else:
            followed.noted = stage

    async def _trim(self, state: ExchangeState) -> bool:
        """Give back what was reserved beyond the prompt, as soon as that is known; tell whether it was."""
        spare = state.admitted.spare(state.usage) if state.admitted else 0
        if state.admitted is None or not spare:
            return False
        await self._store.trim(state.record(), state.admitted.call.plan.limits, spare)
        return True

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            await self.beat()


class Followed:
    """The block in which one exchange's progress is noted."""

    __slots__ = ("_all", "noted", "state", "trimmed")

    def __init__(self, followed: "dict[str, Followed]", state: ExchangeState) -> None:
        self._all = followed
        self.state = state
        self.noted = _BEGUN
        self.trimmed = False
        """Whether what was reserved beyond the prompt has been given back."""

    def __enter__(self) -> None:
        """Begin to follow it."""
        self._all[self.state.request_id] = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Forget it."""
        del self._all[self.state.request_id]


def _stage(state: ExchangeState) -> _Stage:
    return len(state.attempts), state.usage
