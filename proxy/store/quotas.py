"""
How limits stand in Redis, and what an operator gives of them.

A grant has an id of its own, so that one that is sent twice is given once; the second is told what the first was.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from policies.book import place
from policies.quota import Limit, LimitStatus, Scope, Subject
from proxy.redis.client import RedisClient
from proxy.store import keys, scripts
from proxy.store.compiled_limits import CompiledLimits, compiled
from proxy.store.suspects import Suspects, held_of

GRANT_MS = 3_600_000
"""How long a grant is known by its id."""
OF_A_MODEL = (Scope.MODEL, Scope.USER_MODEL)
OF_A_USER = (Scope.USER, Scope.USER_MODEL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Statuses = Callable[[Subject, tuple[Limit, ...]], Awaitable[tuple[LimitStatus, ...]]]
"""Tells how limits stand for a subject."""


@dataclass(frozen=True, slots=True)
class LimitLine:
    """One limit of a caller as people and programs read it."""

    status: LimitStatus
    model: str | None
    """None where the limit is of all models together."""
    suspect: int = 0
    """What a window keeps for requests of gateways that nobody hears of; it is in what is used."""

    def as_dict(self, now_us: int) -> dict[str, Any]:
        """Return what JSON tells; `now_us` is microseconds since the epoch."""
        limit = self.status.limit
        return {
            "name": limit.name,
            "scope": limit.scope,
            "unit": limit.unit,
            "per": limit.per,
            "model": self.model,
            "limit": limit.amount,
            "used": max(0, self.status.used),
            "suspect": self.suspect,
            "remaining": self.status.remaining,
            "reset_after_s": self.status.reset_after_us / 1_000_000,
            "resets_at": self.resets_at(now_us),
        }

    def resets_at(self, now_us: int) -> str:
        """Return when all of it is there again, rounded up: who comes back at that instant finds the limit reset."""
        resets_at_s = -(-(now_us + self.status.reset_after_us) // 1_000_000)
        return (_EPOCH + timedelta(seconds=resets_at_s)).isoformat()


async def limit_lines(
    statuses: Statuses,
    suspects: Suspects,
    limits: Iterable[Limit],
    *,
    tenant: str,
    user: str,
    models: Iterable[str],
) -> list[LimitLine]:
    """Return each limit of a caller once, and those of a model once for each model."""
    limits, lines = tuple(limits), []
    kept = held_of([each async for each in suspects(tenant)], tenant)
    everywhere = tuple(limit for limit in limits if limit.scope not in OF_A_MODEL)
    of_models = tuple(limit for limit in limits if limit.scope in OF_A_MODEL)
    for model, asked in ((None, everywhere), *((name, of_models) for name in models if of_models)):
        subject = Subject(tenant=tenant, user=user, model=model or "")
        told = await statuses(subject, asked)
        lines += [LimitLine(status, model, kept[place(status.limit, subject)]) for status in told]
    return lines


async def statuses(connection: RedisClient, subject: Subject, limits: tuple[Limit, ...]) -> tuple[LimitStatus, ...]:
    """Tell how each limit stands, changing nothing; raise LedgerUnavailable."""
    if not limits:
        return ()
    asked = compiled(limits)
    touched = asked.keys(subject.tenant, subject.user, subject.model)
    words = (await connection.run(scripts.STATUSES, touched, [asked.packed])).split()
    told = zip(asked.limits, words[1::2], words[2::2], strict=True)
    status = {limit: status_of(limit, int(used), int(reset)) for limit, used, reset in told}
    return tuple(status[limit] for limit in limits)


async def grant(
    connection: RedisClient, subject: Subject, limit: Limit, more: int | None, *, grant_id: str
) -> tuple[int, LimitStatus]:
    """
    Give so much more of a rate or window, for None all that is used; return what was used, and how it stands now.

    Raises: LedgerUnavailable; then it may have been given, and the same `grant_id` tells.
    """
    asked = CompiledLimits((limit,))
    touched = [keys.grant(subject.tenant, grant_id), *asked.keys(subject.tenant, subject.user, subject.model)]
    args = [asked.packed, "-" if more is None else more, GRANT_MS]
    _, was, used, reset = (await connection.run(scripts.GRANT, touched, args)).split()
    return int(was), status_of(limit, int(used), int(reset))


def status_of(limit: Limit, used: int, reset_after_us: int) -> LimitStatus:
    """Return how a limit stands of which so much is used."""
    return LimitStatus(limit, max(0, limit.amount - used), reset_after_us, used)
