"""
The network between gateways and Redis: a call may be lost on its way, its answer may be lost, and either may be late
or come twice. What was sent arrives even if its sender is killed meanwhile.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient, Value
from proxy.redis.script import Script
from tests.simulation.loop import OUTSIDE, Process
from tests.simulation.shared_redis import SharedRedis

DEADLINE_S = 2.0
LATE_S_MAX = 3.0
"""How long a call may be on its way at most, past its deadline too."""
QUICK_S = 0.0005


@dataclass(slots=True)
class Weather:
    """How bad the network is now, in calls of a thousand."""

    lost: int = 0
    unanswered: int = 0
    late: int = 0
    doubled: int = 0

    def clear(self) -> None:
        """Lose nothing any more."""
        self.lost = self.unanswered = self.late = self.doubled = 0


class Line:
    """The way to Redis, the same for every gateway; `arrived` is called after each call that Redis took."""

    def __init__(self, redis: SharedRedis, rng: random.Random, arrived: Callable[[str], None]) -> None:
        self.weather = Weather()
        self._redis = redis
        self._rng = rng
        self._arrived = arrived
        self._silent: list[Callable[[], None]] | None = None
        self.cut: set[Process] = set()
        """Whose calls are lost, and their answers."""
        self.refusing = False
        """Whether nothing listens there, as after a kill -9."""

    def stop(self) -> None:
        """Let Redis stop where it stands: what arrives waits in its sockets."""
        self._silent = self._silent or []

    def go_on(self) -> None:
        """Let Redis answer again, first of all what waited."""
        self._redis.starts += self.refusing
        waited, self._silent, self.refusing = self._silent or [], None, False
        for arrive in waited:
            arrive()

    async def carry(self, process: Process, name: str, call: Callable[[SharedRedis], Any]) -> Any:
        """Make one call; raise `LedgerUnavailable` where no answer came in time."""
        if process.killed or self.refusing:
            await asyncio.sleep(QUICK_S)
            raise LedgerUnavailable
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fate, weather = self._rng.randrange(1000), self.weather
        if fate >= weather.lost:
            answered = fate >= weather.lost + weather.unanswered
            self._send(process, lambda: self._make(process, name, call, answer if answered else None))
        if self._rng.randrange(1000) < weather.doubled:
            self._send(process, lambda: self._make(process, name, call, None))
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await answer
        except TimeoutError as error:
            raise LedgerUnavailable from error

    def _send(self, process: Process, arrive: Callable[[], None]) -> None:
        if process in self.cut:
            return
        late = self._rng.randrange(1000) < self.weather.late
        delay_s = self._rng.uniform(0, LATE_S_MAX) if late else QUICK_S * (1 + self._rng.random())
        asyncio.get_running_loop().call_later(delay_s, self._at_the_door, arrive, context=OUTSIDE.copy())

    def _at_the_door(self, arrive: Callable[[], None]) -> None:
        if self._silent is not None:
            self._silent.append(arrive)
        elif not self.refusing:
            arrive()

    def _make(
        self, process: Process, name: str, call: Callable[[SharedRedis], Any], answer: asyncio.Future[Any] | None
    ) -> None:
        made = call(self._redis)
        if answer is not None and not answer.done() and process not in self.cut:
            answer.set_result(made)
        self._arrived(name)


class LossyConnection(RedisClient):
    """A process' connection to Redis over the line."""

    def __init__(self, line: Line, process: Process) -> None:
        self._line = line
        self._process = process

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> str:
        """Run a script and return its answer."""
        answer: str = await self._line.carry(self._process, script.name, lambda redis: redis.run(script, keys, args))
        return answer

    async def call(self, command: str, *args: Value) -> Any:
        """Run one Redis command and return its answer."""
        return await self._line.carry(self._process, command.lower(), lambda redis: redis.call(command, *args))

    async def servers(self) -> frozenset[str]:
        """Return which server keeps the data."""
        found: frozenset[str] = await self._line.carry(self._process, "info", SharedRedis.servers)
        return found


class CalmConnection(RedisClient):
    """The world's own look into Redis: nothing is ever lost on it."""

    def __init__(self, redis: SharedRedis) -> None:
        self._shared = redis

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> str:
        """Run a script and return its answer."""
        return self._shared.run(script, keys, args)

    async def call(self, command: str, *args: Value) -> Any:
        """Run one Redis command and return its answer."""
        return self._shared.call(command, *args)
