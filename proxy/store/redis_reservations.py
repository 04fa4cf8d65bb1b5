"""
Reservations in Redis: turns each step into one script's keys and arguments, and its answer into a decision.

Rules: nothing is decided here. What a reserve asks travels as doubles, which hold every amount; an answer is words
between blanks, the first of which is the server's time in microseconds. What Redis did not answer is not sent again
here (see `outbox/outbox.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from math import ceil
from struct import Struct

import orjson

from policies.pricing import Price
from policies.quota import Ask, Granted, Limit, LimitStatus, Refused, Repeated, Subject
from proxy.billing.record import ExchangeRecord, differing, written
from proxy.errors import LedgerEmptied
from proxy.redis.client import RedisClient, Value
from proxy.redis.script import Script
from proxy.store import keys, late_records, open_reservation, quotas, scripts, suspects
from proxy.store.compiled_limits import CompiledLimits, compiled
from proxy.store.membership.incarnation import Incarnation
from proxy.store.quotas import status_of
from proxy.store.reservations import LASTS_S_MAX, AlreadyEnded, Settlement
from proxy.store.suspects import Suspect

ONCE_MS = 24 * 3_600_000
"""How long a client's own key for a request is remembered."""

LATE_US_MAX = 30 * 1_000_000
"""How long after the last moment of an exchange its own end may be on its way from a gateway that was cut off."""

_ASKED = Struct("<6d")
"""The fields of an ask in their order, and how long the client's key is remembered."""
_Limits = tuple[Limit, ...]
_LEFT = Settlement(None, ours=False)
"""Of a reservation that is not known and was left so."""


class RedisReservations:
    """The `proxy.store.reservations.Reservations` that every gateway shares."""

    def __init__(self, connection: RedisClient, incarnation: Incarnation) -> None:
        self._connection = connection
        self._incarnation = incarnation

    @property
    def incarnation(self) -> str:
        """Return who ends reservations here."""
        return self._incarnation.id

    async def reserve(
        self,
        draft: ExchangeRecord,
        limits: _Limits,
        ask: Ask,
        *,
        price: Price | None = None,
        once: str | None = None,
        lasts_s: float = LASTS_S_MAX,
    ) -> Granted | Refused | Repeated:
        """Take what `ask` needs on every limit, or nothing."""
        asked, (own, open_index) = compiled(limits), _places(draft)
        # Without a key of the client's the reservation's own fills the place.
        place = own if once is None else keys.once(draft.tenant, draft.user, once)
        touched = (own, open_index, keys.generation(draft.tenant), place, *_counters(draft, asked))
        told = b"%b\n%b\n%b" % (written(draft), asked.text, orjson.dumps(price))
        args = (told, _ASKED.pack(*ask, 0 if once is None else ONCE_MS), asked.packed, ceil(lasts_s))
        return _decision(await self._run(scripts.RESERVE, draft, touched, args), asked.limits)

    async def progress(self, record: ExchangeRecord) -> None:
        """Note on an open reservation how far its exchange has come: what a sweep would bill, and of which replica."""
        counts: tuple[Value, Value] = record.prompt_tokens, record.completion_tokens
        told = counts if any(counts) else ("-", "-")
        touched = [keys.reservation(record.tenant, record.request_id)]
        args = [record.attempts, *told, open_reservation.noted(record)]
        await self._connection.run(scripts.PROGRESS, touched, args)

    async def trim(self, draft: ExchangeRecord, limits: _Limits, spare: int) -> None:
        """Give back `spare` reserved tokens that turned out not to be needed; the second time changes nothing."""
        asked = compiled(limits)
        touched = [keys.reservation(draft.tenant, draft.request_id), *_counters(draft, asked)]
        await self._connection.run(scripts.TRIM, touched, [spare, asked.packed])

    def settle(
        self, record: ExchangeRecord, limits: _Limits, *, held: int = 0, frees: bool = False
    ) -> Awaitable[Settlement]:
        """Post the record's tokens, return the rest and append the FINAL record to the ledger, in one step."""
        return self._end("SETTLED", record, limits, held=held, frees=frees, unknown="charge")

    async def append_late(
        self, record: ExchangeRecord, limits: _Limits, *, held: int = 0, frees: bool = False
    ) -> Settlement:
        """Settle where the reservation is still known; else add to the ledger what it does not have."""
        end = await self._end("SETTLED", record, limits, held=held, frees=frees)
        return await late_records.append(self._connection, record, self._incarnation.id) if end is _LEFT else end

    def expire(self, record: ExchangeRecord, limits: _Limits, *, held: int) -> Awaitable[Settlement]:
        """Settle for a gateway that died: as `settle`, but only where the reservation is still open."""
        return self._end("EXPIRED", record, limits, held=held)

    async def suspect(self, record: ExchangeRecord, limits: _Limits, *, held: int) -> bool:
        """
        Give back places and rates of a reservation whose gateway may be dead; windows keep it. Tell if it was open.

        Raises: LedgerUnavailable. Sent again it changes nothing.
        """
        asked, tenant = compiled(limits), record.tenant
        touched = [*_places(record), keys.suspect_index(tenant), *_counters(record, asked)]
        tokens = record.prompt_tokens + record.completion_tokens
        args: list[Value] = [*_names(record), asked.packed, tokens, held, LASTS_S_MAX, LATE_US_MAX]
        return (await self._connection.run(scripts.SUSPECT, touched, args)).endswith(" 1")

    async def release(self, draft: ExchangeRecord, limits: _Limits) -> None:
        """Return everything that was reserved, the request count too; an unknown reservation is no error."""
        asked = compiled(limits)
        touched = [*_places(draft), *_counters(draft, asked)]
        await self._connection.run(scripts.RELEASE, touched, [*_names(draft), asked.packed])

    def suspects(self, tenant: str) -> AsyncIterator[Suspect]:
        """Yield what windows keep for requests of gateways that nobody hears of."""
        return suspects.suspects(self._connection, tenant)

    async def statuses(self, subject: Subject, limits: _Limits) -> tuple[LimitStatus, ...]:
        """Tell how each limit stands, changing nothing."""
        if limits:
            self._incarnation.generation.check()
        return await quotas.statuses(self._connection, subject, limits)

    async def _end(
        self,
        end: str,
        record: ExchangeRecord,
        limits: _Limits,
        *,
        held: int,
        frees: bool = False,
        unknown: str = "leave",
    ) -> Settlement:
        asked = compiled(limits)
        tokens = record.prompt_tokens + record.completion_tokens
        args = (end, self._incarnation.id, held, unknown, asked.packed, tokens, written(record), int(frees))
        tenant = record.tenant
        touched = (*_places(record), keys.generation(tenant), keys.ledger(tenant), *_counters(record, asked))
        _, entry_id, ours, corrected, *differences = await self._run(scripts.SETTLE, record, touched, args)
        if entry_id == "?":
            return _LEFT
        correction = differing(record, [*map(int, differences)]) if corrected == "1" else None
        return Settlement(None if entry_id == "-" else entry_id, ours == "1", correction)

    async def _run(
        self, script: Script, record: ExchangeRecord, touched: Sequence[str], args: Sequence[Value]
    ) -> list[str]:
        """Run a script that counts or charges, on the tenant's data that this gateway remembers and on no other."""
        incarnation, names = self._incarnation, _names(record)
        if not incarnation.serves(record.tenant):
            await incarnation.serve(record.tenant)
        for _ in range(2):
            answer = await self._connection.run(script, touched, (*names, incarnation.generation.value, *args))
            words = answer.split()
            if words[1] != "foreign":
                return words
            await incarnation.serve_again(record.tenant)
        raise LedgerEmptied


def _names(record: ExchangeRecord) -> tuple[str, str]:
    return record.request_id, keys.open_member(record.incarnation, record.request_id)


def _places(record: ExchangeRecord) -> tuple[str, str]:
    return keys.reservation(record.tenant, record.request_id), keys.open_index(record.tenant)


def _counters(record: ExchangeRecord, asked: CompiledLimits) -> tuple[str, ...]:
    return asked.keys(record.tenant, record.user, record.model)


def _decision(words: list[str], limits: _Limits) -> Granted | Refused | Repeated:
    kind = words[1]
    if kind == "granted":
        return Granted(int(words[2]), _binding(words[3:], limits))
    if kind == "refused":
        wait = None if words[3] == "-" else int(words[3])
        return Refused(limits[int(words[2])], wait, _binding(words[4:], limits))
    if kind == "repeated":
        return Repeated(words[2])
    raise AlreadyEnded


def _binding(told: list[str], limits: _Limits) -> tuple[LimitStatus, ...]:
    """Return how the limits stand that a decision tells of: index, used, reset of each."""
    numbers = map(int, told)
    return tuple(status_of(limits[at], used, reset) for at, used, reset in zip(numbers, numbers, numbers, strict=True))
