"""
Reservations without a Redis: the pure book of `policies/`, behind the interface of the store.

A test may take the store away (`away`) or have a step wait (`held`); the ledger is a list.
"""

import asyncio

from policies.book import Book, Request, State
from policies.quota import Ask, Granted, Limit, Refused, Standing, Subject
from proxy.billing.record import ExchangeRecord
from proxy.errors import LedgerUnavailable
from proxy.store.reservations import AlreadyEnded, Settlement

NOW_US = 1_700_000_000_000_000


class MemoryReservations:
    """The `proxy.store.reservations.Reservations` of one test."""

    def __init__(self) -> None:
        self.book = Book()
        self.ledger: list[ExchangeRecord] = []
        self.unobserved: list[bool] = []
        """For each row of the ledger, whether the quota kept the whole reservation."""
        self.notes: list[tuple[str, tuple[int, int]]] = []
        self.away: set[str] = set()
        """The steps that find no store."""
        self.unanswered: set[str] = set()
        """The steps that are done, and whose answer is lost."""
        self.broken: Exception | None = None
        """A bug that every step meets."""
        self.held: dict[str, asyncio.Event] = {}
        """The steps that are done, and answered only once their event is set."""
        self.steps: list[str] = []

    async def reserve(self, draft: ExchangeRecord, limits: tuple[Limit, ...], ask: Ask) -> Granted | Refused:
        """Take what `ask` needs on every limit, or nothing."""
        await self._reach("reserve")
        decision = self.book.reserve(_request(draft, limits), ask, NOW_US)
        await self._answer("reserve")
        if decision is None:
            raise AlreadyEnded
        return decision

    async def progress(self, request_id: str, tenant: str, usage: tuple[int, int]) -> None:
        """Note what was generated so far."""
        await self._reach("progress")
        self.book.progress(request_id, usage)
        self.notes.append((request_id, usage))

    async def trim(self, draft: ExchangeRecord, limits: tuple[Limit, ...], spare: int) -> None:
        """Give back what turned out not to be needed."""
        await self._reach("trim")
        self.book.trim(_request(draft, limits), spare, NOW_US)

    async def settle(
        self, record: ExchangeRecord, limits: tuple[Limit, ...], *, unobserved: bool = False
    ) -> Settlement:
        """Post the record's tokens, return the rest and append the FINAL record."""
        await self._reach("settle")
        tokens = None if unobserved else record.prompt_tokens + record.completion_tokens
        first = self.book.settle(_request(record, limits), tokens, NOW_US)
        if first:
            self.ledger.append(record)
            self.unobserved.append(unobserved)
        await self._answer("settle")
        return Settlement(str(len(self.ledger)), self.book.reservations[record.request_id].state is State.SETTLED)

    async def release(self, draft: ExchangeRecord, limits: tuple[Limit, ...]) -> None:
        """Return everything that was reserved."""
        await self._reach("release")
        self.book.release(_request(draft, limits), NOW_US)
        await self._answer("release")

    async def standings(self, subject: Subject, limits: tuple[Limit, ...]) -> tuple[Standing, ...]:
        """Tell how each limit stands."""
        await self._reach("standings")
        return self.book.standings(subject, limits, NOW_US)

    @property
    def pending(self) -> list[str]:
        """The ids of the reservations that have not ended."""
        return [name for name, known in self.book.reservations.items() if known.state is State.PENDING]

    async def _reach(self, step: str) -> None:
        await asyncio.sleep(0)
        if step in self.away:
            raise LedgerUnavailable
        if self.broken is not None:
            raise self.broken
        self.steps.append(step)

    async def _answer(self, step: str) -> None:
        if step in self.held:
            await self.held[step].wait()
        if step in self.unanswered:
            raise LedgerUnavailable


def _request(record: ExchangeRecord, limits: tuple[Limit, ...]) -> Request:
    subject = Subject(tenant=record.tenant, user=record.user, model=record.model)
    return Request(record.request_id, subject, limits)
