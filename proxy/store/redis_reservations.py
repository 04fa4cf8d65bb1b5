"""
Reservations in Redis: turns each step into one script's keys and arguments, and its answer into a decision.

Rules: nothing is decided here. Amounts travel as decimal text; an answer is words between blanks, the first of which
is the server's time in microseconds. What Redis did not answer is not sent again here (see `ends.py`).
"""

from collections.abc import Sequence

import orjson

from policies.pricing import Price
from policies.quota import Ask, Granted, Limit, Refused, Repeated, Standing, Subject
from proxy.billing.record import ExchangeRecord, differing, written
from proxy.errors import LedgerEmptied
from proxy.store import keys, late_records, open_reservation, scripts
from proxy.store.connection import Connection, Value
from proxy.store.incarnation import Incarnation
from proxy.store.line_up import LineUp, line_up
from proxy.store.reservations import AlreadyEnded, Settlement
from proxy.store.scripts import Script

ONCE_MS = 24 * 3_600_000
"""How long a client's own key for a request is remembered."""

_Limits = tuple[Limit, ...]
_LEFT = Settlement(None, ours=False)
"""Of a reservation that is not known and was left so."""


class RedisReservations:
    """The `proxy.store.reservations.Reservations` that every gateway shares."""

    def __init__(self, connection: Connection, incarnation: Incarnation) -> None:
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
    ) -> Granted | Refused | Repeated:
        """Take what `ask` needs on every limit, or nothing."""
        asked = line_up(limits)
        # Without a key of the client's the reservation's own fills the place.
        own = keys.reservation(draft.tenant, draft.request_id)
        place = own if once is None else keys.once(draft.tenant, draft.user, once)
        # The numbers of an ask stand in the order of its fields.
        args = (written(draft).decode(), asked.text, orjson.dumps(price).decode(), *ask, 0 if once is None else ONCE_MS)
        return _decision(await self._run(scripts.RESERVE, draft, (place, *_counters(draft, asked)), args), asked)

    async def progress(self, record: ExchangeRecord) -> None:
        """Note on an open reservation how far its exchange has come: what a sweep would bill, and of which replica."""
        counts: tuple[Value, Value] = record.prompt_tokens, record.completion_tokens
        told = counts if any(counts) else ("-", "-")
        touched = [keys.reservation(record.tenant, record.request_id)]
        args = [record.attempts, *told, open_reservation.noted(record)]
        await self._connection.run(scripts.PROGRESS, touched, args)

    async def trim(self, draft: ExchangeRecord, limits: _Limits, spare: int) -> None:
        """Give back `spare` reserved tokens that turned out not to be needed; the second time changes nothing."""
        asked = line_up(limits)
        touched = [keys.reservation(draft.tenant, draft.request_id), *_counters(draft, asked)]
        await self._connection.run(scripts.TRIM, touched, [spare, asked.text])

    async def settle(self, record: ExchangeRecord, limits: _Limits, *, unobserved: bool = False) -> Settlement:
        """Post the record's tokens, return the rest and append the FINAL record to the ledger, in one step."""
        known = await self._end("SETTLED", record, limits, unobserved=unobserved)
        return known or _LEFT

    async def append_late(self, record: ExchangeRecord, limits: _Limits, *, unobserved: bool = False) -> Settlement:
        """Settle where the reservation is still known; else add to the ledger what it does not have."""
        known = await self._end("SETTLED", record, limits, unobserved=unobserved, unknown="leave")
        return known or await late_records.append(self._connection, record, self._incarnation.id)

    async def expire(self, record: ExchangeRecord, limits: _Limits, *, unobserved: bool) -> Settlement:
        """Settle for a gateway that died: as `settle`, but only where the reservation is still open."""
        known = await self._end("EXPIRED", record, limits, unobserved=unobserved, unknown="leave")
        return known or _LEFT

    async def release(self, draft: ExchangeRecord, limits: _Limits) -> None:
        """Return everything that was reserved, the request count too; an unknown reservation is no error."""
        asked = line_up(limits)
        touched = [*_places(draft), *_counters(draft, asked)]
        await self._connection.run(scripts.RELEASE, touched, [*_names(draft), asked.text])

    async def standings(self, subject: Subject, limits: _Limits) -> tuple[Standing, ...]:
        """Tell how each limit stands, changing nothing."""
        if not limits:
            return ()
        self._incarnation.epoch.check()
        asked = line_up(limits)
        touched = asked.keys(subject.tenant, subject.user, subject.model)
        words = (await self._connection.run(scripts.STANDINGS, touched, [asked.text])).split()
        told = zip(asked.limits, words[1::2], words[2::2], strict=True)
        standing = {limit: _standing(limit, int(used), int(reset)) for limit, used, reset in told}
        return tuple(standing[limit] for limit in limits)

    async def _end(
        self, end: str, record: ExchangeRecord, limits: _Limits, *, unobserved: bool, unknown: str = "charge"
    ) -> Settlement | None:
        """Return None where the reservation is not known and was left."""
        asked = line_up(limits)
        tokens = record.prompt_tokens + record.completion_tokens
        policy = "keep" if unobserved else "post"
        args = (end, self._incarnation.id, policy, unknown, asked.text, tokens, written(record).decode())
        touched = (keys.ledger(record.tenant), *_counters(record, asked))
        _, entry_id, ours, corrected, *differences = await self._run(scripts.SETTLE, record, touched, args)
        if entry_id == "?":
            return None
        correction = differing(record, [int(word) for word in differences]) if corrected == "1" else None
        return Settlement(None if entry_id == "-" else entry_id, ours == "1", correction)

    async def _run(
        self, script: Script, record: ExchangeRecord, touched: Sequence[str], args: Sequence[Value]
    ) -> list[str]:
        """Run a script that counts or charges, on the tenant's data that this gateway remembers and on no other."""
        tenant, epoch = record.tenant, self._incarnation.epoch
        if not self._incarnation.serves(tenant):
            await self._incarnation.serve(tenant)
        places = (*_places(record), keys.epoch(tenant), *touched)
        for _ in range(2):
            words = (await self._connection.run(script, places, (*_names(record), epoch.value, *args))).split()
            if words[1] != "foreign":
                return words
            await self._incarnation.serve_again(tenant)
        raise LedgerEmptied


def _names(record: ExchangeRecord) -> tuple[str, str]:
    return record.request_id, keys.open_member(record.incarnation, record.request_id)


def _places(record: ExchangeRecord) -> tuple[str, str]:
    return keys.reservation(record.tenant, record.request_id), keys.open_index(record.tenant)


def _counters(record: ExchangeRecord, asked: LineUp) -> tuple[str, ...]:
    return asked.keys(record.tenant, record.user, record.model)


def _decision(words: list[str], asked: LineUp) -> Granted | Refused | Repeated:
    kind = words[1]
    if kind == "granted":
        return Granted(int(words[2]), _binding(words, 3, asked))
    if kind == "refused":
        wait = None if words[3] == "-" else int(words[3])
        return Refused(asked.limits[int(words[2])], wait, _binding(words, 4, asked))
    if kind == "repeated":
        return Repeated(words[2])
    raise AlreadyEnded


def _binding(words: list[str], first: int, asked: LineUp) -> tuple[Standing, ...]:
    """Return how the limits stand that a decision tells of: index, used, reset of each, from the `first` word on."""
    told = []
    for at in range(first, len(words), 3):
        told.append(_standing(asked.limits[int(words[at])], int(words[at + 1]), int(words[at + 2])))
    return tuple(told)


def _standing(limit: Limit, used: int, reset_after_us: int) -> Standing:
    remaining = limit.amount - used
    return Standing(limit, remaining if remaining > 0 else 0, reset_after_us, used)
