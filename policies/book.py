"""
The quota's decisions over a state in memory: reserve, progress, trim, suspect, settle, release, expire.

`PENDING [-> SUSPECT] -> SETTLED | RELEASED | EXPIRED`; the first end wins and a step repeated changes nothing. Only a
settle that comes after its reservation was EXPIRED still moves the limits, once, to where they were had it come first.
A SUSPECT one is open still, and nobody knows by whom: rates and places in flight have it back, windows keep it. The Lua
scripts of `proxy/store/lua` make the same decisions in Redis; the book is their oracle, so the two are written apart
and never share arithmetic.

Decision: a reservation that ends before it begins (a release that overtakes its reserve) leaves a marker, and the
late reserve is answered None: nothing is taken. Because a cancelled client's reserve and release may travel on two
connections; instead of hoping for their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from policies.holds import Hold
from policies.in_flight import InFlight
from policies.quota import (
    WHOLE,
    Ask,
    Granted,
    Limit,
    LimitKind,
    LimitStatus,
    Per,
    Refused,
    Repeated,
    Scope,
    Subject,
    Unit,
    Used,
    in_order,
    settled_cost,
)
from policies.rate import Rate
from policies.window import Window

type_of: dict[LimitKind, type[Rate] | type[Window] | type[InFlight]] = {
    LimitKind.RATE: Rate,
    LimitKind.WINDOW: Window,
    LimitKind.IN_FLIGHT: InFlight,
}

Counter = Rate | Window | InFlight
CounterId = tuple[str, Scope, tuple[str, ...], Unit, Per | None]
"""What tells one counter from another. The plan is no part of it: who switches plans keeps what was used."""


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    PENDING = "PENDING"
    SUSPECT = "SUSPECT"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class EntryKind(StrEnum):
    """What an end writes into the ledger."""

    FINAL = "FINAL"
    CORRECTION = "CORRECTION"


OPEN = (ReservationState.PENDING, ReservationState.SUSPECT)
"""The states of one that has not ended."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as every step of its reservation names it."""

    id: str
    subject: Subject
    limits: tuple[Limit, ...]


@dataclass(slots=True)
class BookedReservation:
    """What the book remembers of one request."""

    state: ReservationState
    decision: Granted | None = None
    holds: tuple[tuple[Limit, Hold], ...] = ()
    usage: tuple[int, int] | None = None
    """(prompt_tokens, completion_tokens) that the present attempt was seen to use."""
    attempt: int = 0
    trimmed: bool = False
    rates_keep: int = 0
    """The tokens that rates keep of a SUSPECT one."""
    posted: tuple[tuple[Limit, Hold, int], ...] = ()
    """What an expiry charged each limit, for as long as a settle may still correct it."""
    corrected: bool = False


def place(limit: Limit, subject: Subject) -> CounterId:
    """Return which counter this limit moves for this subject."""
    return subject.tenant, limit.scope, subject.names(limit.scope), limit.unit, limit.per


@dataclass(slots=True)
class Book:
    """Every counter and every reservation. Raises nothing: a step that does not apply changes nothing."""

    counters: dict[CounterId, Counter] = field(default_factory=dict)
    reservations: dict[str, BookedReservation] = field(default_factory=dict)
    once: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """Which request a client's own key belongs to, by tenant, user and key."""

    def reserve(
        self, request: Request, ask: Ask, now_us: int, *, once: str | None = None
    ) -> Granted | Refused | Repeated | None:
        """
        Take what `ask` needs on every limit, or nothing; None where the reservation had ended before it began.

        The same request again gets its first grant unchanged, until it has ended; another one with the same `once` is
        told whose it is.
        """
        known = self.reservations.get(request.id)
        if known is not None:
            return known.decision
        own = None if once is None else (request.subject.tenant, request.subject.user, once)
        if own in self.once:
            return Repeated(self.once[own])
        decision = self._decide(request, ask, now_us)
        if own is not None and isinstance(decision, Granted):
            self.once[own] = request.id
        return decision

    def _decide(self, request: Request, ask: Ask, now_us: int) -> Granted | Refused:
        counters = [self._counter(limit, request.subject, now_us) for limit in request.limits]
        completion = ask.max_completion
        for limit, counter in zip(request.limits, counters, strict=True):
            completion = min(completion, _completion_that_fits(limit, counter, ask))
        if completion < ask.min_completion:
            return self._refuse(request, ask, counters)
        return self._grant(request, ask, completion, now_us)

    def _grant(self, request: Request, ask: Ask, completion: int, now_us: int) -> Granted:
        holds = []
        for limit in request.limits:
            counter = self._counter(limit, request.subject, now_us)
            fixed, scale = ask.cost(limit.unit)
            hold = Hold(
                request_id=request.id,
                cost=fixed + scale * completion,
                ends_at_us=now_us + ask.hold_us,
                window_end_us=counter.end_us if isinstance(counter, Window) else None,
            )
            self.counters[place(limit, request.subject)] = counter.take(hold)
            holds.append((limit, hold))
        granted = Granted(completion, _binding(self.statuses(request.subject, request.limits, now_us)))
        self.reservations[request.id] = BookedReservation(ReservationState.PENDING, granted, tuple(holds))
        return granted

    def _refuse(self, request: Request, ask: Ask, counters: Iterable[Counter]) -> Refused:
        counter_of = dict(zip(request.limits, counters, strict=True))
        waits = [(limit, _wait_us(limit, counter_of[limit], ask)) for limit in in_order(request.limits)]
        refusing = [(limit, wait) for limit, wait in waits if wait != 0]
        limit, wait = max(refusing, key=lambda pair: (pair[1] is None, pair[1]))
        statuses = [_status(each, counter) for each, counter in counter_of.items()]
        of_its_unit = [status for status in statuses if status.limit is limit or status.limit.unit is not limit.unit]
        return Refused(limit, wait, _binding(of_its_unit))

    def progress(self, request_id: str, usage: tuple[int, int] | None, attempt: int) -> None:
        """Note what an attempt has used so far (None: not told yet); neither number falls before the next attempt."""
        known = self.reservations.get(request_id)
        if known is None or known.state not in OPEN or attempt < known.attempt:
            return
        if attempt > known.attempt:
            known.attempt, known.usage = attempt, None
        if usage is not None:
            seen = known.usage or (0, 0)
            known.usage = (max(seen[0], usage[0]), max(seen[1], usage[1]))

    def trim(self, request: Request, spare: int, now_us: int) -> None:
        """Give back `spare` tokens that turned out not to be needed; the second time changes nothing."""
        known = self.reservations.get(request.id)
        if known is None or known.state is not ReservationState.PENDING or known.trimmed:
            return
        holds = []
        for limit, hold in known.holds:
            back = min(spare, hold.cost) if limit.unit is Unit.TOKENS else 0
            if limit.unit is Unit.TOKENS:
                self._post(limit, request.subject, (replace(hold, cost=back), 0), now_us)
            holds.append((limit, replace(hold, cost=hold.cost - back)))
        known.holds, known.trimmed = tuple(holds), True

    def suspect(self, request: Request, used: Used, now_us: int) -> None:
        """
        Give back places, and rates as if `used` ended it; windows keep it all. The second time changes nothing.

        What it is about is open, and nobody has heard of its owner for long.
        """
        known = self.reservations.get(request.id)
        if known is None or known.state is not ReservationState.PENDING:
            return
        for limit, hold in known.holds:
            if limit.kind is LimitKind.WINDOW:
                continue
            cost = _cost(limit, hold, used)
            self._post(limit, request.subject, (hold, cost), now_us)
            if limit.unit is Unit.TOKENS:
                known.rates_keep = cost
        known.state = ReservationState.SUSPECT

    def settle(
        self, request: Request, used: Used, now_us: int, state: ReservationState = ReservationState.SETTLED
    ) -> EntryKind | None:
        """
        Post what was used and keep what is held, and return the rest; tell what this end writes, if anything.

        A request that the book does not know is charged all the same, unless it is being expired; what one that it
        knows holds is told by its reserve alone.
        """
        known = self.reservations.get(request.id)
        if known is None and state is ReservationState.EXPIRED:
            return None
        if known is not None and known.state is ReservationState.EXPIRED and state is ReservationState.SETTLED:
            return self._correct(request, known, used, now_us)
        if known is not None and known.state not in OPEN:
            return None
        if known is None:
            unreserved = Hold(request_id=request.id, cost=0)
            tokens = used.tokens + (used.held if used.held < WHOLE else 0)
            postings = [(limit, unreserved, settled_cost(limit.unit, tokens)) for limit in request.limits]
        else:
            postings = [(limit, hold, _cost(limit, hold, used)) for limit, hold in known.holds]
        for limit, hold, cost in postings:
            self._post(limit, request.subject, (_held(known, limit, hold), cost), now_us)
        self._end(request.id, state)
        if used.frees and state is ReservationState.SETTLED:
            self._free(request.id)
        if state is ReservationState.EXPIRED:
            self.reservations[request.id].posted = tuple(postings)
        return EntryKind.FINAL

    def _correct(self, request: Request, known: BookedReservation, used: Used, now_us: int) -> EntryKind | None:
        if known.corrected:
            return None
        differences = [_cost(limit, hold, used) - posted for limit, hold, posted in known.posted]
        self._move(request, known, differences, now_us)
        return EntryKind.CORRECTION

    def _move(self, request: Request, known: BookedReservation, differences: list[int], now_us: int) -> None:
        """Move every limit that an expiry charged; once."""
        for (limit, hold, _), difference in zip(known.posted, differences, strict=True):
            if not difference:
                continue
            counter = self._counter(limit, request.subject, now_us)
            self.counters[place(limit, request.subject)] = counter.correct(hold, difference)
        known.posted, known.corrected = (), True

    def release(self, request: Request, now_us: int) -> None:
        """Return everything that was reserved, the request count too; also what an expiry charged instead."""
        known = self.reservations.get(request.id)
        if known is not None and known.state is ReservationState.EXPIRED:
            self._move(request, known, [-posted for _, _, posted in known.posted], now_us)
            return
        if known is not None and known.state not in OPEN:
            return
        for limit, hold in known.holds if known is not None else ():
            self._post(limit, request.subject, (_held(known, limit, hold), 0), now_us)
        self._free(request.id)
        self._end(request.id, ReservationState.RELEASED)

    def grant(self, limit: Limit, subject: Subject, more: int | None, now_us: int) -> tuple[int, LimitStatus]:
        """Give so much more of a rate or window, for None all that is used; tell what was used, and how it stands."""
        counter = self._counter(limit, subject, now_us)
        given = self.counters[place(limit, subject)] = counter.grant(limit, more)
        return counter.used, _status(limit, given)

    def statuses(self, subject: Subject, limits: tuple[Limit, ...], now_us: int) -> tuple[LimitStatus, ...]:
        """Tell how each limit stands."""
        return tuple(_status(limit, self._counter(limit, subject, now_us)) for limit in limits)

    def _counter(self, limit: Limit, subject: Subject, now_us: int) -> Counter:
        counter = self.counters.get(place(limit, subject)) or type_of[limit.kind].unused(now_us)
        return counter.at(limit, now_us)

    def _post(self, limit: Limit, subject: Subject, posting: tuple[Hold, int], now_us: int) -> None:
        """Post; a counter whose use does not move is not brought to now either."""
        hold, cost = posting
        known = self.counters.get(place(limit, subject))
        if cost != hold.cost:
            known = self._counter(limit, subject, now_us)
        if known is not None:
            self.counters[place(limit, subject)] = known.post(hold, cost)

    def _free(self, request_id: str) -> None:
        """Let the client's own key for a request be used again."""
        self.once = {own: first for own, first in self.once.items() if first != request_id}

    def _end(self, request_id: str, state: ReservationState) -> None:
        reservation = self.reservations.setdefault(request_id, BookedReservation(state))
        reservation.state, reservation.holds, reservation.decision = state, (), None


def _cost(limit: Limit, hold: Hold, used: Used) -> int:
    """Return what an end charges a limit."""
    if limit.unit is not Unit.TOKENS:
        return settled_cost(limit.unit, used.tokens)
    return max(used.tokens, min(used.tokens + used.held, hold.cost))


def _held(known: BookedReservation | None, limit: Limit, hold: Hold) -> Hold:
    """Return what a limit has of a reservation now."""
    if known is None or known.state is not ReservationState.SUSPECT:
        return hold
    given_back = limit.kind is LimitKind.RATE and limit.unit is Unit.TOKENS
    return replace(hold, cost=known.rates_keep) if given_back else hold


def _completion_that_fits(limit: Limit, counter: Counter, ask: Ask) -> int:
    """Return the largest completion that this limit holds; -1 where not even the fixed part fits."""
    fixed, scale = ask.cost(limit.unit)
    room = limit.amount - counter.used - fixed
    if room < 0:
        return -1
    return room // scale if scale else ask.max_completion


def _wait_us(limit: Limit, counter: Counter, ask: Ask) -> int | None:
    """Return how long until the least that is asked fits; 0 where it fits now, None where it never does."""
    fixed, scale = ask.cost(limit.unit)
    least = fixed + scale * ask.min_completion
    missing = least - (limit.amount - counter.used)
    if missing <= 0:
        return 0
    return None if least > limit.amount else counter.wait_us(limit, missing)


def _binding(statuses: Iterable[LimitStatus]) -> tuple[LimitStatus, ...]:
    """Return of each unit the limit that has the least left."""
    by_limit = {status.limit: status for status in statuses}
    told = []
    for unit in Unit:
        of_unit = [by_limit[limit] for limit in in_order(by_limit) if limit.unit is unit]
        told += sorted(of_unit, key=lambda status: status.limit.amount - status.used)[:1]
    return tuple(told)


def _status(limit: Limit, counter: Counter) -> LimitStatus:
    return LimitStatus(limit, max(0, limit.amount - counter.used), counter.reset_us(limit), counter.used)
