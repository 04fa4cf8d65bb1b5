"""
The reservation's life in Redis: reserve, progress, settle, release, expire.

`PENDING -> SETTLED | RELEASED | EXPIRED`. Each step is one Lua script of `lua/`, so that every level of a request's
limits moves together or not at all, and a step repeated changes nothing.
"""

from dataclasses import dataclass
from typing import Protocol

from policies.quota import Ask, Granted, Limit, Refused, Standing
from proxy.billing.record import ExchangeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose limits a request moves."""

    tenant: str
    user: str
    model: str


class Reservations(Protocol):
    """The store of reservations; every call has a deadline and raises `proxy.errors.LedgerUnavailable` past it."""

    async def reserve(self, draft: ExchangeRecord, limits: tuple[Limit, ...], ask: Ask) -> Granted | Refused:
        """
        Take what `ask` needs on every limit, or nothing.

        `draft` is the record as it is known so far (tokens 0): its ids name the reservation and the limits' subjects,
        and it is kept on the reservation, so that a sweep can bill what a dead gateway left.
        """
        ...

    async def progress(self, request_id: str, tenant: str, usage: tuple[int, int]) -> None:
        """Note (prompt_tokens, completion_tokens) generated so far on an open reservation."""
        ...

    async def settle(self, record: ExchangeRecord) -> None:
        """Post the record's tokens, return the rest and append the FINAL record to the ledger, in one step."""
        ...

    async def release(self, request_id: str, tenant: str) -> None:
        """Return everything that was reserved, the request count too; an unknown reservation is no error."""
        ...

    async def standings(self, subject: Subject, limits: tuple[Limit, ...]) -> tuple[Standing, ...]:
        """Tell how each limit stands, changing nothing."""
        ...
