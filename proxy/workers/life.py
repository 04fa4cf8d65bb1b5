"""One life of a worker, as far as its line tells: whether it serves, and what it said last of itself."""

import asyncio
from contextlib import suppress

from proxy.workers.channel import Channel, Message

LAST_WORDS_S_MAX = 5.0
"""For what a process has written before its end to be read."""


class Life:
    """
    What the supervisor hears of a worker; `listen` must run beside whoever asks.

    Bounds: one report is kept, the last.
    """

    def __init__(self, line: Channel) -> None:
        self.incarnation: str | None = None
        """Set when it serves."""
        self.fatal: str | None = None
        """Why it could not start, where it said so."""
        self.report: Message | None = None
        self.over = asyncio.Event()
        """Set when nothing more will be heard."""
        self._line = line
        self._asked = 0
        self._answered = 0
        self._news = asyncio.Event()

    @property
    def cpu_s(self) -> float:
        """Return what its last report cost it."""
        return float(self.report["cpu_s"]) if self.report else 0.0

    async def tell(self, message: Message) -> None:
        """Send it a message; one that is gone is told nothing."""
        await self._line.send(message)

    async def listen(self) -> None:
        """Hear it out."""
        while (message := await self._line.receive()) is not None:
            self._hear(message)
        self.over.set()
        self._wake()

    async def refresh(self, within_s: float) -> bool:
        """Have it report as it stands from now on; return whether it did."""
        self._asked += 1
        number = self._asked
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.tell({"ask": number})
                while self._answered < number and not self.over.is_set():
                    await self._news.wait()
        return self._answered >= number

    async def last_words(self) -> None:
        """Wait until everything is read that a process said which has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S_MAX):
                await self.over.wait()

    def _hear(self, message: Message) -> None:
        self.incarnation = message.get("ready", self.incarnation)
        self.fatal = message.get("fatal", self.fatal)
        if "exposition" in message:
            self.report = message
            self._answered = message.get("answer", self._answered)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
