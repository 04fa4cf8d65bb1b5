"""
The connection to Redis: scripts over one shared socket, other commands over a bounded pool, a deadline on every call,
one fault.

Rules:
- A script, which is what requests wait for, shares its round trip with the others of its moment (`wire.py`). Commands,
  which are what the background asks, go through redis-py, and wait at most `WAIT_S_MAX` for one of its sockets.
- Whatever goes wrong becomes `proxy.errors.LedgerUnavailable`, here and nowhere else; its cause stays chained.
- A cancelled call raises CancelledError. redis-py may answer all the same and keep the cancellation to itself (seen
  with 8.1), so it is looked for after each of its calls.
- A call may be sent again once when its socket turns out to be dead, so every one sent through here changes nothing the
  second time.

Must not know what is stored.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from types import TracebackType
from typing import Any, Self, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.errors import LedgerUnavailable
from proxy.store.scripts import Script
from proxy.store.wire import Lost, Refused, Silent, Wire

DEADLINE_S = 1.0
CONNECTIONS_MAX = 64
WAIT_S_MAX = 10.0

Value = str | int
Observe = Callable[[str, float], None]
"""Told the name of each call and the seconds it took; feeds `tollway_redis_seconds{op}`."""


class UnsafeRedis(Exception):
    """This Redis could lose or evict what is billed; the message says which setting to change."""


class Connection:
    """
    Calls to one Redis: `async with Connection("unix:///run/redis.sock") as connection`.

    Units: `deadline_s` in seconds for one call; `connections_max` sockets for commands, beside the one for scripts.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = DEADLINE_S,
        connections_max: int = CONNECTIONS_MAX,
        observe: Observe = lambda op, seconds: None,
    ) -> None:
        self._deadline_s = deadline_s
        self._observe = observe
        self._free = asyncio.Semaphore(connections_max)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections_max,
            timeout=deadline_s,
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._redis: Any = Redis.from_pool(pool)
        self._wire = Wire(url, deadline_s=deadline_s)

    async def __aenter__(self) -> Self:
        """Return itself; sockets open with the first call."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every socket."""
        await self._wire.__aexit__(kind, error, trace)
        await self._redis.aclose()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> str:
        """
        Run a script and return its answer.

        Raises: LedgerUnavailable.
        """
        began = perf_counter()
        try:
            try:
                answer = await self._wire.ask("EVALSHA", script.sha, len(keys), *keys, *args)
            except Refused as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                answer = await self._wire.ask("EVAL", script.text, len(keys), *keys, *args)
        except (Silent, Lost, Refused) as error:
            raise LedgerUnavailable from error
        finally:
            self._observe(script.name, perf_counter() - began)
        return cast("str", answer)

    async def call(self, command: str, *args: Value) -> Any:
        """
        Run one Redis command and return its answer.

        Raises: LedgerUnavailable.
        """
        async with self._bounded(command.lower()):
            return await self._redis.execute_command(command, *args)

    async def check(self, *, allow_unsafe: bool = False) -> None:
        """
        Refuse a Redis that evicts keys or keeps no append-only file, unless the operator allows it.

        Raises: UnsafeRedis, LedgerUnavailable.
        """
        info = await self.call("INFO")
        faults = []
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            faults.append(f"maxmemory-policy is {info['maxmemory_policy']}: set it to noeviction")
        if not info.get("aof_enabled"):
            faults.append("it keeps no append-only file: set appendonly to yes")
        if faults and not allow_unsafe:
            raise UnsafeRedis("This Redis would lose quotas and bills; " + "; ".join(faults) + ".")

    @asynccontextmanager
    async def _bounded(self, op: str) -> AsyncIterator[None]:
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            async with self._turn(), asyncio.timeout(self._deadline_s):
                began = perf_counter()
                try:
                    yield
                finally:
                    self._observe(op, perf_counter() - began)
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError
        except (RedisError, OSError, TimeoutError) as error:
            raise LedgerUnavailable from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with asyncio.timeout(WAIT_S_MAX):
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()
