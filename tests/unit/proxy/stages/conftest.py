"""A request that has been understood, and what the stages need to serve it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.protocols.chat import CHAT
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.call import Call
from proxy.exchange_state import ExchangeState
from proxy.identity.principal import Principal
from proxy.stages.settle import Reservation
from tests.unit.proxy.gateway import Gateway, gateway
from tests.unit.proxy.test_call import CHAT_BODY, call


@pytest.fixture
def gw(tmp_path: Path) -> Gateway:
    return gateway(tmp_path)


@pytest.fixture
def asked(gw: Gateway) -> Call:
    return call(gw.catalog, CHAT_BODY | {"max_tokens": 100, "n": 2})


@pytest.fixture
def state(asked: Call) -> ExchangeState:
    return begun(asked)


def begun(asked: Call) -> ExchangeState:
    """Return the exchange of a call, as far as it was understood."""
    return ExchangeState(CHAT, "01JC0000000000000000000000", principal=Principal("acme", "ada", "pro"), call=asked)


def granted(asked: Call, max_completion: int = 100) -> Admitted:
    """Return a call as its limits let it in."""
    return Admitted(asked, asked.ask(hold_us=1), max_completion, (), time.perf_counter())


def tries(state: ExchangeState, gw: Gateway, **known: Any) -> Attempt:
    """Let an exchange be admitted and try a replica, of which this much is known."""
    assert state.call is not None
    state.admitted = granted(state.call)
    attempt = Attempt(state.admitted, gw.pools["demo"]["a"].lease(1, 1, 1), **known)
    state.attempts.append(attempt)
    return attempt


@asynccontextmanager
async def admitting(gw: Gateway, state: ExchangeState, key: str | None = None) -> AsyncIterator[Reservation]:
    """Reserve for the block, as an exchange does."""
    call = state.call
    assert call is not None
    with gw.exchange.progress.following(state):
        async with Reservation(gw.exchange.outbox, call.plan.limits, state) as reservation:
            state.admitted = await gw.exchange.admit(call, state.record(), key)
            yield reservation
