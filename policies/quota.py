"""
The question: may this request take its tokens, its turn in the count and its place in flight, and what is left then?

One request asks every limit of its plan at once, all or none. A limit has one of three kinds, which its `per` and
`unit` tell:

- a **rate** (`second`, `minute`, `hour`; `rate.py`): a bucket that holds `amount` and refills by `amount` a period;
- a **window** (`day`, `month`, UTC, half-open; `window.py`): a counter of what is settled and what is pending;
- **in flight** (`concurrent`; `in_flight.py`): a set of request ids.

This module owns the words of all three; `book.py` decides with them. The Lua scripts in `proxy/store/lua` decide in
production; the book is their oracle in tests and decides where no Redis is. Both compute in integers: a refill keeps
its remainder.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MAX_AMOUNT = 2**53 - 1
"""The largest integer that Lua's numbers (doubles) count without a gap."""


class Scope(StrEnum):
    """Whose use a limit counts."""

    TENANT = "tenant"
    USER = "user"
    MODEL = "model"
    """This tenant's use of one model."""
    USER_MODEL = "user_model"


class Unit(StrEnum):
    """What a limit counts."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    CONCURRENT = "concurrent"


class Per(StrEnum):
    """A rate's period, or a window's calendar unit."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class LimitKind(StrEnum):
    """How a limit counts."""

    RATE = "rate"
    WINDOW = "window"
    IN_FLIGHT = "in_flight"


PERIOD_US: dict[Per | None, int] = {Per.SECOND: 1_000_000, Per.MINUTE: 60_000_000, Per.HOUR: 3_600_000_000}
"""The periods that refill; every other `per` is a calendar unit."""


class Limit(NamedTuple):
    """
    One line of a plan. A plan has at most one limit of the same name.

    A tuple, because what is made of a plan's limits is looked up by them several times a request, and C hashes tuples.

    Bounds: 1 <= amount <= MAX_AMOUNT.
    """

    scope: Scope
    unit: Unit
    amount: int
    per: Per | None
    """None for `concurrent` alone."""

    @property
    def name(self) -> str:
        """Return the name that headers, messages and keys give this limit, such as `user-tokens-minute`."""
        return "-".join(part for part in (self.scope, self.unit, self.per) if part)

    @property
    def kind(self) -> LimitKind:
        """Return how this limit counts."""
        if self.unit is Unit.CONCURRENT:
            return LimitKind.IN_FLIGHT
        return LimitKind.RATE if self.per in PERIOD_US else LimitKind.WINDOW


_LOOKED_AT = {each: place for place, each in enumerate((*Scope, *Unit, *reversed(Per), None))}


def in_order(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """Return limits in the order in which a decision looks at them; of equals the first one counts."""
    return tuple(sorted(limits, key=_place))


def _place(limit: Limit) -> tuple[bool, int, int, int]:
    return limit.per is None, _LOOKED_AT[limit.scope], _LOOKED_AT[limit.unit], _LOOKED_AT[limit.per]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose limits a request moves."""

    tenant: str
    user: str
    model: str

    def names(self, scope: Scope) -> tuple[str, ...]:
        """Return what tells this subject's use from others' within its tenant."""
        match scope:
            case Scope.TENANT:
                return ()
            case Scope.USER:
                return (self.user,)
            case Scope.MODEL:
                return (self.model,)
            case Scope.USER_MODEL:
                return (self.user, self.model)


class Ask(NamedTuple):
    """
    What one request needs of every limit.

    A limit on tokens is asked for `prompt_tokens + choices * completion`, with the largest `completion` between
    `min_completion` and `max_completion` that every limit holds; a limit on requests or in flight for one.

    Bounds: 1 <= choices; 0 <= min_completion <= max_completion; prompt_tokens + choices * max_completion < 2**53.
    """

    prompt_tokens: int
    """Upper bound over all prompts."""
    choices: int
    """Completions over all prompts: prompts * n."""
    max_completion: int
    """Tokens each choice asks for; 0 where the endpoint completes nothing (embeddings)."""
    min_completion: int
    """The clamp never goes below this: min(asked, the model's `min_completion`)."""
    hold_us: int
    """How long the request is expected to be in flight, in microseconds."""

    def cost(self, unit: Unit) -> tuple[int, int]:
        """Return (fixed, scale): what a limit of this unit is asked for is `fixed + scale * completion`."""
        return (self.prompt_tokens, self.choices) if unit is Unit.TOKENS else (1, 0)

    def least(self, unit: Unit) -> int:
        """Return the least that a limit of this unit must hold for the request to be admitted."""
        fixed, scale = self.cost(unit)
        return fixed + scale * self.min_completion


def settled_cost(unit: Unit, tokens: int) -> int:
    """Return what a limit of this unit keeps of a request that used so many tokens."""
    return tokens if unit is Unit.TOKENS else 1


class LimitStatus(NamedTuple):
    """
    One limit as it stands after a decision, for headers and `GET /v1/quota`.

    Units: `remaining` in the limit's unit, never negative, over `limit.amount` where more was granted; `reset_after_us`
    until all of it is there again.
    """

    limit: Limit
    remaining: int
    reset_after_us: int
    used: int
    """What is settled and what is pending together; over `limit.amount` where there is debt, below 0 where an operator
    granted more than that in this window."""


class Granted(NamedTuple):
    """The reservation was made: at most `max_completion` tokens a choice are paid for."""

    max_completion: int
    statuses: tuple[LimitStatus, ...]
    """How the limits that bind stand: of each unit the one with the least left."""


class Repeated(NamedTuple):
    """Nothing was taken: the client's own key for this request belongs to an earlier one."""

    request_id: str


WHOLE = MAX_AMOUNT
"""Of tokens held: all that was reserved, however much that is."""


class Used(NamedTuple):
    """What a request comes to at its end. Units: tokens."""

    tokens: int
    """What is billed."""
    held: int = 0
    """What may have been used beyond that, and nobody knows: the quota keeps it, up to what was reserved."""
    frees: bool = False
    """Whether the client's own key for the request may be used again: it got nothing, and pays nothing."""


class Refused(NamedTuple):
    """Nothing was taken."""

    limit: Limit
    """The limit that refused; of several, the one that takes longest."""
    retry_after_us: int | None
    """Until the least this request asks for could be there; None is never."""
    statuses: tuple[LimitStatus, ...]
    """As of a grant; of the refusing limit's unit it is that limit."""
