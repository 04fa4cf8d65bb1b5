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
        self._answers: dict[int, asyncio.Future[Message | None]] = {}

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
        for answer in self._answers.values():
            _answered(answer, None)

    async def refresh(self, within_s: float) -> bool:
        """Have it report as it stands from now on; return whether it did."""
        return await self.ask({}, within_s) is not None

    async def ask(self, question: Message, within_s: float) -> Message | None:
        """Return what it answers; None from one that is gone, or silent for too long."""
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                await self.tell({"ask": number, **question})
                return None if self.over.is_set() else await answer
        except TimeoutError:
            return None
        finally:
            del self._answers[number]

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
        answer = self._answers.get(message.get("answer", 0))
        if answer is not None:
            _answered(answer, message)


def _answered(question: asyncio.Future[Message | None], answer: Message | None) -> None:
    if not question.done():
        question.set_result(answer)
