"""
Reservations in Redis: turns each step into one script's keys and arguments, and its answer into a decision.

Rules: nothing is decided here. Amounts travel as decimal text; an answer is words between blanks, the first of which
is the server's time in microseconds. What Redis did not answer is not sent again here (see `ends.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import orjson

from policies.pricing import Price
from policies.quota import (
    PERIOD_US,
    Ask,
    Granted,
    Limit,
    Per,
    Refused,
    Repeated,
    Scope,
    Standing,
    Subject,
    Unit,
    settled_cost,
)
from proxy.billing.record import COUNTED, ExchangeRecord
from proxy.errors import LedgerEmptied
from proxy.store import keys, late_records, ledger, scripts
from proxy.store.connection import Connection, Value
from proxy.store.incarnation import Incarnation
from proxy.store.reservations import AlreadyEnded, Settlement
from proxy.store.scripts import Script

ONCE_MS = 24 * 3_600_000
"""How long a client's own key for a request is remembered."""

_Limits = tuple[Limit, ...]
_LEFT = Settlement(None, ours=False)
"""Of a reservation that is not known and was left so."""
_NOTED = ("replica", "group", "attempts", "queue_ms", "ttft_ms", "wasted_tokens")
"""What is known of an exchange only after it was admitted, beside its tokens."""


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
        args: list[Value] = [_draft(draft, limits, price), ask.min_completion, ask.max_completion, ask.hold_us]
        args.append(ONCE_MS if once is not None else 0)
        for limit in limits:
            args += _row(limit, *ask.cost(limit.unit))
        # Without a key of the client's the reservation's own fills the place; the script does not look at it.
        own = keys.reservation(draft.tenant, draft.request_id)
        place = own if once is None else keys.once(draft.tenant, draft.user, once)
        return _decision(
            await self._run(scripts.RESERVE, draft, [place, *_counters(_subject(draft), limits)], args), limits
        )

    async def progress(self, record: ExchangeRecord) -> None:
        """Note on an open reservation how far its exchange has come: what a sweep would bill, and of which replica."""
        counts: tuple[Value, Value] = record.prompt_tokens, record.completion_tokens
        told = counts if any(counts) else ("-", "-")
        noted = orjson.dumps({name: getattr(record, name) for name in _NOTED}).decode()
        touched = [keys.reservation(record.tenant, record.request_id)]
        await self._connection.run(scripts.PROGRESS, touched, [record.attempts, *told, noted])

    async def trim(self, draft: ExchangeRecord, limits: _Limits, spare: int) -> None:
        """Give back `spare` reserved tokens that turned out not to be needed; the second time changes nothing."""
        on_tokens = tuple(limit for limit in limits if limit.unit is Unit.TOKENS)
        touched = [keys.reservation(draft.tenant, draft.request_id), *_counters(_subject(draft), on_tokens)]
        await self._connection.run(scripts.TRIM, touched, [draft.request_id, spare])

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
        touched = [*_places(draft), *_counters(_subject(draft), limits)]
        await self._connection.run(scripts.RELEASE, touched, _names(draft))

    async def standings(self, subject: Subject, limits: _Limits) -> tuple[Standing, ...]:
        """Tell how each limit stands, changing nothing."""
        if not limits:
            return ()
        self._incarnation.epoch.check()
        args = [value for limit in limits for value in _row(limit, 0, 0)]
        answer = await self._connection.run(scripts.STANDINGS, _counters(subject, limits), args)
        return _standings(answer.split()[1:], limits)

    async def _end(
        self, end: str, record: ExchangeRecord, limits: _Limits, *, unobserved: bool, unknown: str = "charge"
    ) -> Settlement | None:
        """Return None where the reservation is not known and was left."""
        tokens = record.prompt_tokens + record.completion_tokens
        rows = [value for limit in limits for value in _row(limit, settled_cost(limit.unit, tokens), 0)]
        policy = ["keep" if unobserved else "post", unknown]
        args = [end, self._incarnation.id, *policy, len(rows), *rows, *ledger.words(record)]
        touched = [keys.ledger(record.tenant), *_counters(_subject(record), limits)]
        _, entry_id, ours, corrected, *differences = await self._run(scripts.SETTLE, record, touched, args)
        if entry_id == "?":
            return None
        correction = _differing(record, differences) if corrected == "1" else None
        return Settlement(None if entry_id == "-" else entry_id, ours == "1", correction)

    async def _run(
        self, script: Script, record: ExchangeRecord, touched: Sequence[str], args: Sequence[Value]
    ) -> list[str]:
        """Run a script that counts or charges, on the tenant's data that this gateway remembers and on no other."""
        tenant, epoch = record.tenant, self._incarnation.epoch
        await self._incarnation.serve(tenant)
        for _ in range(2):
            places = [*_places(record), keys.epoch(tenant), *touched]
            words = (await self._connection.run(script, places, [*_names(record), epoch.value, *args])).split()
            if words[1] != "foreign":
                return words
            await self._incarnation.serve_again(tenant)
        raise LedgerEmptied


def read_draft(text: str, noted: str | None) -> tuple[ExchangeRecord, _Limits, Price | None]:
    """
    Return what `reserve` kept of a request and `progress` noted since.

    Shapes: its record without tokens, its limits, its price.
    """
    draft = orjson.loads(text)
    limits = tuple(
        Limit(Scope(scope), Unit(unit), amount, Per(per) if per else None)
        for scope, unit, amount, per in draft["limits"]
    )
    price = Price(**draft["price"]) if draft["price"] else None
    return replace(ledger.record_of(draft["record"]), **orjson.loads(noted or "{}")), limits, price


def _draft(record: ExchangeRecord, limits: _Limits, price: Price | None) -> str:
    lines = [(limit.scope, limit.unit, limit.amount, limit.per) for limit in limits]
    return orjson.dumps({"record": ledger.flat(record), "limits": lines, "price": price}).decode()


def _names(record: ExchangeRecord) -> list[Value]:
    return [record.request_id, keys.open_member(record.incarnation, record.request_id)]


def _places(record: ExchangeRecord) -> list[str]:
    return [keys.reservation(record.tenant, record.request_id), keys.open_index(record.tenant)]


def _subject(record: ExchangeRecord) -> Subject:
    return Subject(tenant=record.tenant, user=record.user, model=record.model)


def _counters(subject: Subject, limits: _Limits) -> list[str]:
    return [keys.counter(limit, subject) for limit in limits]


def _row(limit: Limit, fixed: int, scale: int) -> tuple[Value, ...]:
    """Return what `asked_rows` of lua/lib/limits.lua reads."""
    return limit.kind.value, limit.amount, PERIOD_US.get(limit.per) or str(limit.per or "-"), fixed, scale


def _differing(record: ExchangeRecord, differences: Iterable[str]) -> ExchangeRecord:
    return replace(record, **dict(zip(COUNTED, map(int, differences), strict=True)))  # type: ignore[arg-type]


def _decision(words: Sequence[str], limits: _Limits) -> Granted | Refused | Repeated:
    match words[1:]:
        case ["granted", completion, *rest]:
            return Granted(int(completion), _standings(rest, limits))
        case ["refused", index, wait, *rest]:
            return Refused(limits[int(index)], None if wait == "-" else int(wait), _standings(rest, limits))
        case ["repeated", request_id]:
            return Repeated(request_id)
        case _:
            raise AlreadyEnded


def _standings(words: Sequence[str], limits: _Limits) -> tuple[Standing, ...]:
    pairs = zip(limits, words[::2], words[1::2], strict=True)
    return tuple(
        Standing(limit, max(0, limit.amount - int(used)), int(reset), int(used)) for limit, used, reset in pairs
    )
