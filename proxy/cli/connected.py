"""What the commands share that read or write a running gateway's Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from proxy.errors import LedgerUnavailable
from proxy.fatal import Fatal
from proxy.identity.secret_files import redis_access
from proxy.redis.client import RedisClient
from proxy.redis.embedded.server import EmbeddedRedisNotRunning, address
from proxy.redis.refusal import SILENT, RedisRefusal
from proxy.settings import Settings

_Answer = TypeVar("_Answer")


def on_redis(settings: Settings, work: Callable[[RedisClient], Awaitable[_Answer]], *, unanswered: str) -> _Answer:
    """
    Do `work` on the config's Redis; `unanswered` says what that means where it does not answer.

    Raises: Fatal.
    """

    async def run() -> _Answer:
        async with connected(settings) as connection:
            return await work(connection)

    try:
        return asyncio.run(run())
    except LedgerUnavailable as fault:
        raise Fatal(f"{why(fault)}{unanswered}") from None


def why(fault: LedgerUnavailable) -> str:
    """Return for an operator what Redis said, or that it said nothing."""
    refusal = RedisRefusal.of(fault.__cause__) if fault.__cause__ else None
    if refusal is None or refusal.reason == SILENT:
        return "Redis does not answer"
    return f"Redis refuses ({refusal.said})"


def connected(settings: Settings) -> RedisClient:
    """
    Return a connection to the config's Redis, or to the embedded one that runs now; it opens in its own block.

    Raises: Fatal.
    """
    try:
        url = settings.redis.url or address(settings.redis.data_dir)
    except EmbeddedRedisNotRunning as error:
        raise Fatal(str(error)) from None
    return RedisClient(url, access=redis_access(settings), deadline_s=settings.redis.timeout_s)
