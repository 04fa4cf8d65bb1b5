"""
The reservation's life in Redis: reserve, progress, trim, suspect, settle, release, expire.

`PENDING [-> SUSPECT] -> SETTLED | RELEASED | EXPIRED`. Each step is one Lua script of `lua/`, so that every level of a
request's limits moves together or not at all, and a step repeated changes nothing: the first end wins. One of a gateway
that nobody hears of is SUSPECT, and kept by windows, until it is known how it ended. A gateway that was paused for so
long that a sweeper EXPIRED its reservation still settles: that FINAL stays, and one CORRECTION row beside it
tells the difference to the truth, by which the limits move too.

Every step after `reserve` may be sent again, from any connection, until it is answered. Limits are told at each step,
the ones that `reserve` was given and no others, because a cluster must know a script's keys, and because a settle whose
reservation Redis has lost still charges them.
"""

from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple, Protocol

from policies.pricing import Price
from policies.quota import Ask, Granted, Limit, LimitStatus, Refused, Repeated, Subject
from proxy.billing.record import ExchangeRecord
from proxy.store.suspects import Suspect

LASTS_S_MAX = 3_600
"""Of an exchange that does not say within how many seconds it ends."""


class AlreadyEnded(Exception):
    """A reserve came after its own release or settle; nothing was taken. Only a caller that has given up meets it."""


class Settlement(NamedTuple):
    """How a settle ended."""

    entry_id: str | None
    """The id of the exchange's one FINAL row in the tenant's ledger; None where it had been released."""
    ours: bool
    """Whether that row is this end's own, also when the same gateway sends it again; False where another came first."""
    correction: ExchangeRecord | None = None
    """The CORRECTION that this end appended to another's FINAL, also when the same gateway sends it again."""


class Reservations(Protocol):
    """The store of reservations; every call has a deadline and raises `proxy.errors.LedgerUnavailable` past it."""

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
        """
        Take what `ask` needs on every limit, or nothing.

        `once` is the client's own key for the request: for 24 h another request of this user with the same key is told
        the first one's id and takes nothing. A refusal does not remember it, a release forgets it.

        `lasts_s` is within how many seconds the exchange ends at the latest: so long its windows are kept for it, where
        nobody hears of its gateway.

        `draft` is the record as it is known so far (tokens 0): its ids name the reservation and the limits' subjects,
        and it is kept on the reservation with its `price`, so that a sweep can bill what a dead gateway left, whatever
        prices are by then.

        Raises: AlreadyEnded, LedgerUnavailable. After the latter, or a cancellation, the caller releases: the
        reserve may have been made, or may yet arrive.
        """
        ...

    async def progress(self, record: ExchangeRecord) -> None:
        """
        Note on an open reservation how far its exchange has come: what a sweep would bill, and of which replica.

        A record without any token says that the engine has told none yet.
        """
        ...

    async def trim(self, draft: ExchangeRecord, limits: tuple[Limit, ...], spare: int) -> None:
        """Give back `spare` reserved tokens that turned out not to be needed; the second time changes nothing."""
        ...

    def settle(
        self, record: ExchangeRecord, limits: tuple[Limit, ...], *, held: int = 0, frees: bool = False
    ) -> Awaitable[Settlement]:
        """
        Post the record's tokens, return the rest and append the FINAL record to the ledger, in one step.

        The quota keeps `held` tokens more, up to what was reserved: what may have been used, and nobody knows. Where it
        `frees`, the client's own key for the request may be used again. After a sweep it appends a CORRECTION instead.

        Raises: LedgerUnavailable. It may have been taken, or may yet arrive: who sends it again learns.
        """
        ...

    def append_late(
        self, record: ExchangeRecord, limits: tuple[Limit, ...], *, held: int = 0, frees: bool = False
    ) -> Awaitable[Settlement]:
        """
        Settle a record so old that its reservation may be forgotten: then only the ledger learns of it.

        Where the reservation is still known this is `settle`. Else the ledger is looked through for the request id,
        from the record's start on: without a row of it a FINAL is appended, beside a sweeper's FINAL a CORRECTION, and
        no limit moves.

        Raises: LedgerUnavailable, also while another gateway appends the same record.
        """
        ...

    async def release(self, draft: ExchangeRecord, limits: tuple[Limit, ...]) -> None:
        """
        Return everything that was reserved, the request count too; an unknown reservation is no error. After a sweep it
        returns what that kept.

        Raises: LedgerUnavailable, as `settle`.
        """
        ...

    async def statuses(self, subject: Subject, limits: tuple[Limit, ...]) -> tuple[LimitStatus, ...]:
        """Tell how each limit stands, changing nothing."""
        ...

    def suspects(self, tenant: str) -> AsyncIterator[Suspect]:
        """Yield what windows keep for requests of gateways that nobody hears of; raise LedgerUnavailable."""
        ...
