"""
The scripts in Redis and the book in memory are one machine: the same steps, the same decisions, the same state.

Redis' own clock drives both: every script tells the time at which it decided, and the book decides at that time. Longer
times pass by moving what both remember into the past, or into the future, as if the clock had run backwards.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from policies.book import OPEN, Book, CounterId, EntryKind, Request, ReservationState, place
from policies.holds import Hold
from policies.in_flight import InFlight
from policies.quota import (
    MAX_AMOUNT,
    WHOLE,
    Ask,
    Granted,
    Limit,
    Per,
    Refused,
    Repeated,
    Scope,
    Subject,
    Unit,
    Used,
    in_order,
)
from policies.rate import Rate
from policies.window import Window
from proxy.billing.record import COUNTED, ExchangeRecord, read
from proxy.redis.client import RedisClient, Value
from proxy.redis.script import Script
from proxy.store import keys
from proxy.store.compiled_limits import CompiledLimits, code_of
from proxy.store.membership.incarnation import Incarnation
from proxy.store.open_reservation import OpenReservation
from proxy.store.quotas import grant
from proxy.store.redis_reservations import RedisReservations
from proxy.store.reservations import AlreadyEnded
from tests.counters import END_DAY, MOVED, SINCE
from tests.property.snapshot import Snapshot, everything
from tests.records import RECORD
from tests.redis_server import on_all_servers

SMALL = (
    Limit(Scope.USER, Unit.TOKENS, 1_000, Per.SECOND),
    Limit(Scope.USER_MODEL, Unit.TOKENS, 3_000, Per.MINUTE),
    Limit(Scope.MODEL, Unit.TOKENS, 7_001, Per.HOUR),
    Limit(Scope.USER, Unit.REQUESTS, 5, Per.MINUTE),
    Limit(Scope.TENANT, Unit.REQUESTS, 12, Per.DAY),
    Limit(Scope.USER, Unit.CONCURRENT, 3, None),
    Limit(Scope.TENANT, Unit.TOKENS, 20_000, Per.MONTH),
)
LARGE = (
    Limit(Scope.MODEL, Unit.TOKENS, MAX_AMOUNT, Per.HOUR),
    Limit(Scope.USER_MODEL, Unit.TOKENS, 2**51 + 7, Per.MINUTE),
    Limit(Scope.TENANT, Unit.CONCURRENT, 4, None),
    Limit(Scope.USER, Unit.CONCURRENT, 2, None),
    Limit(Scope.USER, Unit.REQUESTS, 9, Per.MINUTE),
    Limit(Scope.TENANT, Unit.TOKENS, 2**50, Per.MONTH),
    Limit(Scope.USER, Unit.TOKENS, 2**49 + 1, Per.DAY),
)
PLANS = st.sampled_from([SMALL, LARGE, SMALL[:2], ()])
HELD = st.sampled_from([0, 1, 700, WHOLE])
TENANTS = ["acme", "globex"]
SUBJECTS = st.builds(
    Subject, tenant=st.sampled_from(TENANTS), user=st.sampled_from(["ada", "bob"]), model=st.just("demo")
)
TOKENS = st.integers(0, 1_500) | st.integers(0, 2**50)
DAY_US = 86_400_000_000


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    most = draw(st.integers(0, 1_200))
    return Ask(
        prompt_tokens=draw(TOKENS),
        choices=draw(st.integers(1, 3)),
        max_completion=most,
        min_completion=draw(st.integers(0, most)),
        hold_us=draw(st.integers(0, 3_600_000_000)),
    )


class TimedConnection(RedisClient):
    """A connection that remembers when the last script decided."""

    now_us = 0

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> str:
        answer = await super().run(script, keys, args)
        self.now_us = int(answer.split()[0])
        return answer


@dataclass(frozen=True)
class Known:
    """One request of a run, as both sides name it."""

    record: ExchangeRecord
    request: Request
    ask: Ask
    once: str | None


class QuotaMachine(RuleBasedStateMachine):
    """Every step is taken twice, in Redis and in the book, and told apart by nothing."""

    requests = Bundle("requests")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.redis: Any = Redis.from_url(url, decode_responses=True)
        self.redis.flushall()
        self.undecoded: Any = Redis.from_url(url)
        self.everything = everything(self.undecoded)
        self.loop = asyncio.Runner()
        self.connection = TimedConnection(url, deadline_s=20)
        self.store = RedisReservations(self.connection, Incarnation(self.connection))
        self.book = Book()
        self.places: dict[CounterId, tuple[Limit, Subject]] = {}
        self.known: list[Known] = []
        self.grants = 0
        self.billed: dict[str, ExchangeRecord] = {}
        """The FINAL of each request."""
        self.corrected: dict[str, ExchangeRecord] = {}
        """What its gateway told later of a request that was expired."""

    def teardown(self) -> None:
        try:
            self.everything_settled_leaves_nothing_pending()
        finally:
            self.loop.run(self.connection.__aexit__(None, None, None))
            self.loop.close()
            self.redis.close()
            self.undecoded.close()

    # Steps

    @rule(
        target=requests,
        subject=SUBJECTS,
        limits=PLANS,
        ask=asks(),
        once=st.sampled_from([None, None, None, "a", "b"]),
        reserved=st.integers(0, 5).map(bool),
    )
    def a_new_request(
        self, subject: Subject, limits: tuple[Limit, ...], ask: Ask, once: str | None, *, reserved: bool
    ) -> Known:
        name = f"R{len(self.known)}"
        record = RECORD._replace(request_id=name, tenant=subject.tenant, user=subject.user, model=subject.model)
        known = Known(record, Request(name, subject, limits), ask, once)
        self.known.append(known)
        self.places.update({place(limit, subject): (limit, subject) for limit in limits})
        if reserved:
            self.reserve(known)
        return known

    @rule(known=requests)
    def reserve(self, known: Known) -> None:
        decision = self._do(self._reserve(known))
        assert decision == self.book.reserve(known.request, known.ask, self.connection.now_us, once=known.once)

    @rule(known=requests, usage=st.tuples(TOKENS, TOKENS), attempt=st.sampled_from([1, 1, 1, 2, 3]))
    def progress(self, known: Known, usage: tuple[int, int], attempt: int) -> None:
        record = known.record._replace(prompt_tokens=usage[0], completion_tokens=usage[1], attempts=attempt)
        self._do(self.store.progress(record))
        self.book.progress(known.request.id, usage if any(usage) else None, attempt)

    @rule(known=requests, spare=TOKENS)
    def trim(self, known: Known, spare: int) -> None:
        self._do(self.store.trim(known.record, known.request.limits, spare))
        self.book.trim(known.request, spare, self.connection.now_us)

    @rule(known=requests, tokens=TOKENS, held=HELD, frees=st.booleans(), late=st.booleans())
    def settle(self, known: Known, tokens: int, *, held: int, frees: bool, late: bool) -> None:
        request = known.request
        record = known.record._replace(
            prompt_tokens=tokens, completion_tokens=0, cached_tokens=tokens // 3, wasted_tokens=tokens % 7
        )
        settle = self.store.append_late if late and known.request.id in self.book.reservations else self.store.settle
        settlement = self._do(settle(record, request.limits, held=held, frees=frees))
        written = self.book.settle(request, Used(tokens, held, frees), self.connection.now_us)
        self._note(record, written)
        assert settlement.ours == (self._state(known) is ReservationState.SETTLED)
        assert (settlement.correction is not None) == (known.request.id in self.corrected)

    @rule(known=requests)
    def expire(self, known: Known) -> None:
        reservation = self.book.reservations.get(known.request.id)
        usage = reservation.usage if reservation else None
        prompt, completion = usage or (0, 0)
        record = known.record._replace(
            prompt_tokens=prompt, completion_tokens=completion, charge_picos=prompt + completion
        )
        settlement = self._do(self.store.expire(record, known.request.limits, held=WHOLE if usage is None else 0))
        used = Used(0, WHOLE) if usage is None else Used(sum(usage))
        self._note(record, self.book.settle(known.request, used, self.connection.now_us, ReservationState.EXPIRED))
        assert settlement.ours == (self._state(known) is ReservationState.EXPIRED)

    @rule(known=requests)
    def suspect(self, known: Known) -> None:
        usage = self.book.reservations[known.request.id].usage if self._is_open(known) else None
        prompt, completion = usage or (0, 0)
        record = known.record._replace(prompt_tokens=prompt, completion_tokens=completion)
        first = self._state(known) is ReservationState.PENDING
        done = self._do(self.store.suspect(record, known.request.limits, held=WHOLE if usage is None else 0))
        used = Used(0, WHOLE) if usage is None else Used(sum(usage))
        self.book.suspect(known.request, used, self.connection.now_us)
        assert done == first

    @rule(known=requests)
    def release(self, known: Known) -> None:
        self._do(self.store.release(known.record, known.request.limits))
        self.book.release(known.request, self.connection.now_us)

    @rule(subject=SUBJECTS, limits=PLANS.filter(bool))
    def statuses(self, subject: Subject, limits: tuple[Limit, ...]) -> None:
        told = self._do(self.store.statuses(subject, limits))
        assert told == self.book.statuses(subject, limits, self.connection.now_us)

    @rule(
        subject=SUBJECTS,
        limit=st.sampled_from([limit for limit in (*SMALL, *LARGE) if limit.per]),
        more=st.none() | st.integers(1, 2_000) | st.integers(MAX_AMOUNT - 2_000, MAX_AMOUNT),
        again=st.booleans(),
    )
    def grant(self, subject: Subject, limit: Limit, more: int | None, *, again: bool) -> None:
        self.places.setdefault(place(limit, subject), (limit, subject))
        self.grants += 1
        told = self._do(grant(self.connection, subject, limit, more, grant_id=str(self.grants)))
        assert told == self.book.grant(limit, subject, more, self.connection.now_us)
        if again:
            assert told == self._do(grant(self.connection, subject, limit, more, grant_id=str(self.grants)))

    @rule(by_us=st.integers(-7_200_000_000, 2_000_000_000) | st.integers(-3_000_000, 0))
    def move_rates_and_places(self, by_us: int) -> None:
        for limit, subject in self.places.values():
            counter = self.book.counters.get(place(limit, subject))
            key = _key(limit, subject)
            if isinstance(counter, Rate):
                self.redis.eval(MOVED, 1, key, code_of(limit), SINCE, by_us)
                self.book.counters[place(limit, subject)] = replace(counter, at_us=counter.at_us + by_us)
            elif isinstance(counter, InFlight) and counter.ends:
                ends = {name: end + by_us for name, end in counter.ends.items()}
                self.redis.zadd(key, ends)
                self.book.counters[place(limit, subject)] = replace(counter, ends=ends)

    @rule(days=st.sampled_from([-40, -1, 1]))
    def move_windows(self, days: int) -> None:
        by_us = days * DAY_US
        for limit, subject in self.places.values():
            counter = self.book.counters.get(place(limit, subject))
            if isinstance(counter, Window):
                self.redis.eval(MOVED, 1, _key(limit, subject), code_of(limit), END_DAY, days)
                self.book.counters[place(limit, subject)] = replace(counter, end_us=counter.end_us + by_us)
        for known in self.known:
            self._move_holds(known, days)

    # What always holds

    @invariant()
    def redis_is_as_the_book_and_the_bills_say(self) -> None:
        seen = self._look()
        self.both_remember_the_same(seen)
        self.every_end_is_billed_once(seen)
        self.both_would_bill_the_same(seen)
        self.what_is_open_is_in_the_index(seen)
        self.everything_but_the_ledger_and_the_registry_ends(seen)

    def both_remember_the_same(self, seen: Snapshot) -> None:
        for limit, subject in self.places.values():
            key = _key(limit, subject)
            match self.book.counters.get(place(limit, subject)):
                case Rate(used, carry, at_us):
                    assert seen.counter(key).get(code_of(limit)) == (used, carry, at_us)
                case Window(end_us, settled, pending) as window:
                    assert seen.counter(key).get(code_of(limit)) == (window.used, end_us // DAY_US, 0)
                    assert pending >= 0
                    assert settled >= 0
                case InFlight(_, ends):
                    assert seen.scores(key) == ends
                case None:
                    assert limit.per is None or seen.counter(key).get(code_of(limit)) is None
                    assert limit.per or key not in seen.held

    def every_end_is_billed_once(self, seen: Snapshot) -> None:
        rows = [row for tenant in TENANTS for row in seen.entries(keys.ledger(tenant))]
        told = [(row["kind"], read(row["record"])) for row in rows]
        finals = sorted(record.request_id for kind, record in told if kind == EntryKind.FINAL)
        corrections = sorted(record.request_id for kind, record in told if kind == EntryKind.CORRECTION)
        assert finals == sorted(self.billed)
        assert corrections == sorted(self.corrected)
        for request_id, truth in {**self.billed, **self.corrected}.items():
            of_it = [record for _, record in told if record.request_id == request_id]
            for name in COUNTED:
                assert sum(getattr(record, name) for record in of_it) == getattr(truth, name)

    def both_would_bill_the_same(self, seen: Snapshot) -> None:
        for known in self.known:
            reservation = self.book.reservations.get(known.request.id)
            if reservation is not None and reservation.state in OPEN:
                found = OpenReservation.read(seen.text(keys.reservation(known.record.tenant, known.request.id)))
                noted = (found.record.prompt_tokens, found.record.completion_tokens) if found.observed else None
                assert noted == reservation.usage
                assert found.limits == in_order(known.request.limits)

    def what_is_open_is_in_the_index(self, seen: Snapshot) -> None:
        for state, index in (
            (ReservationState.PENDING, keys.open_index),
            (ReservationState.SUSPECT, keys.suspect_index),
        ):
            there = {known.request.id for known in self.known if self._state(known) is state}
            members = [name for tenant in TENANTS for name in seen.scores(index(tenant))]
            assert {keys.read_open_member(member)[1] for member in members} == there

    def everything_but_the_ledger_and_the_registry_ends(self, seen: Snapshot) -> None:
        for key, ends_ms in seen.ends_ms.items():
            lasting = key in {keys.TENANTS, keys.GENERATION} or key.endswith((":ledger", ":epoch"))
            assert lasting or ends_ms > 0

    def everything_settled_leaves_nothing_pending(self) -> None:
        for known in self.known:
            if self._is_open(known):
                self.settle(known, 10, held=0, frees=False, late=False)
        seen = self._look()
        self.both_remember_the_same(seen)
        self.what_is_open_is_in_the_index(seen)
        for counter in self.book.counters.values():
            assert not isinstance(counter, Window) or counter.pending == 0
            assert not isinstance(counter, InFlight) or not counter.ends

    # Helpers

    def _do(self, step: Any) -> Any:
        return self.loop.run(step)

    async def _reserve(self, known: Known) -> Granted | Refused | Repeated | None:
        try:
            return await self.store.reserve(known.record, known.request.limits, known.ask, once=known.once)
        except AlreadyEnded:
            return None

    def _note(self, record: ExchangeRecord, written: EntryKind | None) -> None:
        if written is EntryKind.FINAL:
            self.billed[record.request_id] = record
        elif written is EntryKind.CORRECTION:
            self.corrected[record.request_id] = record

    def _state(self, known: Known) -> ReservationState | None:
        reservation = self.book.reservations.get(known.request.id)
        return reservation.state if reservation else None

    def _is_open(self, known: Known) -> bool:
        return self._state(known) in OPEN

    def _look(self) -> Snapshot:
        return Snapshot.taken_by(self.everything)

    def _move_holds(self, known: Known, days: int) -> None:
        by_us = days * DAY_US
        reservation = self.book.reservations.get(known.request.id)
        if reservation is None:
            return
        reservation.holds = tuple((limit, _moved(hold, by_us)) for limit, hold in reservation.holds)
        reservation.posted = tuple((limit, _moved(hold, by_us), cost) for limit, hold, cost in reservation.posted)
        if not reservation.holds and not reservation.posted:
            return
        key = keys.reservation(known.record.tenant, known.request.id)
        lines = self.redis.get(key).split("\n")
        line, first = (0, 3) if reservation.holds else (1, 2)
        words = lines[line].split(" ")
        moved = (str(int(word) + days) if word.isdigit() else word for word in words[first:])
        lines[line] = " ".join([*words[:first], *moved])
        self.redis.set(key, "\n".join(lines), keepttl=True)


def _key(limit: Limit, subject: Subject) -> str:
    (key,) = CompiledLimits((limit,)).keys(subject.tenant, subject.user, subject.model)
    return key


def _moved(hold: Hold, by_us: int) -> Hold:
    return hold if hold.window_end_us is None else replace(hold, window_end_us=hold.window_end_us + by_us)


@on_all_servers
def test_the_scripts_decide_as_the_book_does(redis_url: str) -> None:
    # Not shrunk: time passes by itself here, so a shorter run is another run.
    phases = [phase for phase in Phase if phase is not Phase.shrink]
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", lambda: QuotaMachine(redis_url)),
        settings=settings(max_examples=100, stateful_step_count=40, phases=phases),
    )
