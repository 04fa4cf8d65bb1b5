"""
`GET /health/live` and `GET /health/ready`: whether to restart the gateway, and whether to send it work.

`GET /health` is where vLLM is asked, by whoever waits for an engine that can serve: it is answered as ready is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.fleet.pool import Pool
from proxy.errors import LedgerEmptied, LedgerUnavailable
from proxy.redis.refusal import RedisRefusal
from proxy.store.journal.journal import Journal
from proxy.store.membership.incarnation import Incarnation


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the store's health is read from."""

    incarnation: Incarnation
    journal: Journal


def health(pools: Mapping[str, Pool], store: Vitals, draining: Callable[[], bool]) -> list[HTTPRouteHandler]:
    """
    Return both handlers.

    Ready needs a Redis that takes what a reserve writes, with its data, a log that can be written, one healthy replica
    of some model, and no drain.
    """

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        return {"status": "live"}

    @get(["/health", "/health/ready"])
    async def ready() -> Response[dict[str, Any]]:
        takes, refusal = await _takes_writes(store.incarnation)
        checks = {
            "redis": takes,
            "ledger": not store.incarnation.generation.lost,
            **({} if store.journal.writable else {"journal": False}),
            "replicas": any(r.healthy for pool in pools.values() for r in pool),
        }
        good = all(checks.values()) and not draining()
        status = "draining" if draining() else "ready" if good else "not_ready"
        reasons = [
            *([LedgerEmptied().message] if store.incarnation.generation.lost else []),
            *([refusal.words] if refusal else []),
            *([] if store.journal.writable else [f"The write-ahead log cannot be written: {store.journal.why}"]),
        ]
        told = {"reason": "; ".join(reasons)} if reasons else {}
        return Response({"status": status, **checks, **told}, status_code=200 if good else 503)

    return [live, ready]


async def _takes_writes(incarnation: Incarnation) -> tuple[bool, RedisRefusal | None]:
    """Tell whether Redis does what a reserve and a settle need, and what it says where it does not."""
    try:
        await incarnation.can_write()
    except LedgerUnavailable as fault:
        return False, RedisRefusal.of(fault.__cause__) if fault.__cause__ else None
    return True, None
