"""Everything that production code reads of clocks and chance, from the virtual loop and the seed instead."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import proxy.exchange
import proxy.store.membership.incarnation
from proxy.attempt import Attempt
from proxy.exchange_state import ExchangeState
from tests.simulation.loop import VirtualLoop

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock:
    """The time of day in the world: microseconds since the epoch."""

    def __init__(self, loop: VirtualLoop, start_us: int) -> None:
        self._loop = loop
        self._start_us = start_us

    @property
    def now_us(self) -> int:
        """Return the time of day."""
        return self._start_us + round(self._loop.now_s * 1_000_000)

    def now_s(self) -> float:
        """Return the time of day in seconds."""
        return self.now_us / 1_000_000

    def now_ns(self) -> int:
        """Return the time of day in nanoseconds."""
        return self.now_us * 1_000


@contextmanager
def virtual(clock: Clock, rng: random.Random) -> Iterator[None]:
    """Let production code see `clock` and take its ids from `rng`, for the block."""
    began, opened = Attempt.__init__, ExchangeState.__init__

    def attempt(self: Attempt, *args: Any, **known: Any) -> None:
        began(self, *args, **{"turned": clock.now_s(), **known})

    def state(self: ExchangeState, *args: Any, **known: Any) -> None:
        opened(self, *args, **{"request_id": _ulid(rng), "started": clock.now_s(), **known})

    seen: dict[str, Callable[[], float]] = {
        "time": clock.now_s,
        "time_ns": clock.now_ns,
        "monotonic": clock.now_s,
        "monotonic_ns": clock.now_ns,
        "perf_counter": clock.now_s,
    }
    with ExitStack() as stack:
        for name, read in seen.items():
            stack.enter_context(patch.object(time, name, read))
        stack.enter_context(patch.object(proxy.exchange, "perf_counter", clock.now_s))
        # A default factory is bound when its class is made: the class itself must be told.
        stack.enter_context(patch.object(Attempt, "__init__", attempt))
        stack.enter_context(patch.object(ExchangeState, "__init__", state))
        stack.enter_context(patch.object(proxy.store.membership.incarnation, "new_ulid", lambda: _ulid(rng)))
        yield


def _ulid(rng: random.Random) -> str:
    return "01" + "".join(rng.choice(_DIGITS) for _ in range(24))
