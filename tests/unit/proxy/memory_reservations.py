"""
Reservations without a Redis: the pure book of `policies/`, behind the interface of the store.

A test may take the store away (`away`) or have a step wait (`held`); the ledger is a list.
"""

import asyncio
from collections.abc import AsyncIterator

from policies.book import Book, EntryKind, Request, ReservationState
from policies.pricing import Price
from policies.quota import Ask, Granted, Limit, LimitStatus, Refused, Repeated, Subject, Used
from proxy.billing.record import ExchangeRecord, correction
from proxy.errors import LedgerUnavailable
from proxy.store.reservations import LASTS_S_MAX, AlreadyEnded, Settlement
from proxy.store.suspects import Suspect

NOW_US = 1_700_000_000_000_000


class MemoryReservations:
    """The `proxy.store.reservations.Reservations` of one test."""

    def __init__(self) -> None:
        self.book = Book()
        self.ledger: list[ExchangeRecord] = []
        """The FINAL rows."""
        self.corrections: dict[str, ExchangeRecord] = {}
        """The CORRECTION rows, by request id."""
        self.kept: list[int] = []
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
        self.suspected: list[Suspect] = []

    async def reserve(
        self,
        draft: ExchangeRecord,
        limits: tuple[Limit, ...],
        ask: Ask,
        *,
        price: Price | None = None,
        once: str | None = None,
        lasts_s: float = LASTS_S_MAX,
    ) -> Granted | Refused | Repeated:
        """Take what `ask` needs on every limit, or nothing."""
        await self._reach("reserve")
        decision = self.book.reserve(_request(draft, limits), ask, NOW_US, once=once)
        await self._answer("reserve")
        if decision is None:
            raise AlreadyEnded
        return decision

    async def progress(self, record: ExchangeRecord) -> None:
        """Note how far an exchange has come."""
        await self._reach("progress")
        usage = (record.prompt_tokens, record.completion_tokens)
        self.book.progress(record.request_id, usage if any(usage) else None, record.attempts)
        self.notes.append((record.request_id, usage))

    async def trim(self, draft: ExchangeRecord, limits: tuple[Limit, ...], spare: int) -> None:
        """Give back what turned out not to be needed."""
        await self._reach("trim")
        self.book.trim(_request(draft, limits), spare, NOW_US)

    async def settle(
        self, record: ExchangeRecord, limits: tuple[Limit, ...], *, held: int = 0, frees: bool = False
    ) -> Settlement:
        """Post the record's tokens, return the rest and append the FINAL record."""
        await self._reach("settle")
        settlement = self._end(record, limits, ReservationState.SETTLED, held=held, frees=frees)
        await self._answer("settle")
        return settlement

    async def append_late(
        self, record: ExchangeRecord, limits: tuple[Limit, ...], *, held: int = 0, frees: bool = False
    ) -> Settlement:
        """Settle a record whose reservation may be forgotten."""
        await self._reach("append_late")
        limits = limits if record.request_id in self.book.reservations else ()
        return self._end(record, limits, ReservationState.SETTLED, held=held, frees=frees)

    async def expire(self, record: ExchangeRecord, limits: tuple[Limit, ...], *, held: int) -> Settlement:
        """Settle for a gateway that died."""
        await self._reach("expire")
        settlement = self._end(record, limits, ReservationState.EXPIRED, held=held)
        await self._answer("expire")
        return settlement

    async def release(self, draft: ExchangeRecord, limits: tuple[Limit, ...]) -> None:
        """Return everything that was reserved."""
        await self._reach("release")
        self.book.release(_request(draft, limits), NOW_US)
        await self._answer("release")

    async def statuses(self, subject: Subject, limits: tuple[Limit, ...]) -> tuple[LimitStatus, ...]:
        """Tell how each limit stands."""
        await self._reach("statuses")
        return self.book.statuses(subject, limits, NOW_US)

    async def suspects(self, tenant: str) -> AsyncIterator[Suspect]:
        """Yield what a test says that is suspect."""
        for each in self.suspected:
            yield each

    @property
    def pending(self) -> list[str]:
        """The ids of the reservations that have not ended."""
        return [name for name, known in self.book.reservations.items() if known.state is ReservationState.PENDING]

    def _end(
        self,
        record: ExchangeRecord,
        limits: tuple[Limit, ...],
        state: ReservationState,
        *,
        held: int,
        frees: bool = False,
    ) -> Settlement:
        used = Used(record.prompt_tokens + record.completion_tokens, held, frees)
        written = self.book.settle(_request(record, limits), used, NOW_US, state)
        place = next((at for at, row in enumerate(self.ledger) if row.request_id == record.request_id), None)
        if written is EntryKind.FINAL:
            place = len(self.ledger)
            self.ledger.append(record)
            self.kept.append(held)
        elif written is EntryKind.CORRECTION and place is not None:
            self.corrections[record.request_id] = correction(record, self.ledger[place])
        known = self.book.reservations.get(record.request_id)
        corrected = self.corrections.get(record.request_id) if state is ReservationState.SETTLED else None
        ours = known is not None and known.state is state
        return Settlement(None if place is None else str(place + 1), ours, corrected)

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
