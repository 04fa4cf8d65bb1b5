"""How long a relay waits, and for whom."""

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """
    One deadline that moves with every step of a relay, under one that never moves.

    Raises `TimeoutError` out of its block when a step took too long; `blames_client` tells whose step it was.

    Units: seconds. The first step is the replica's and lasts `first_s`; the whole block lasts at most `whole_s`.
    """

    def __init__(self, first_s: float, whole_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + whole_s
        self._replica_due = self._loop.time() + first_s
        self._timeout = asyncio.timeout_at(min(self._replica_due, self._end))
        self.blames_client = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._timeout.__aexit__(kind, error, traceback)

    def with_replica(self, s: float) -> None:
        """Give the replica `s` seconds for the next step."""
        self._replica_due = self._loop.time() + s
        self.back_to_replica()

    def back_to_replica(self) -> None:
        """Wait for the same step of the replica's as before, and no longer than it was given."""
        self._until(self._replica_due)
        self.blames_client = False

    def with_client(self, s: float) -> None:
        """Give the client `s` seconds for the next step."""
        self._until(self._loop.time() + s)
        self.blames_client = True

    def _until(self, due: float) -> None:
        self._timeout.reschedule(min(due, self._end))
