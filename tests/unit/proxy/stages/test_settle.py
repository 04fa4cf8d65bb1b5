import asyncio

import pytest

from engine.protocols.usage import Usage
from proxy.call import Call
from proxy.errors import LedgerUnavailable
from proxy.exchange_state import ExchangeState
from proxy.stages.settle import Reservation
from tests.unit.proxy.gateway import Gateway, until
from tests.unit.proxy.stages.conftest import granted, tries


@pytest.fixture
def reservation(gw: Gateway, asked: Call, state: ExchangeState) -> Reservation:
    state.admitted = granted(asked)
    return Reservation(gw.outbox, asked.plan.limits, state)


async def end(reservation: Reservation, error: BaseException | None = None) -> None:
    """Leave the block of a reservation."""
    await reservation.__aexit__(None if error is None else type(error), error, None)


async def test_it_ends_once(gw: Gateway, reservation: Reservation, state: ExchangeState) -> None:
    tries(state, gw, reached=True, usage=Usage(17, 0, 6))
    await reservation.settle()
    await reservation.settle()
    await end(reservation)
    assert gw.store.steps == ["settle"]
    assert gw.store.ledger == [state.final]


async def test_what_no_replica_saw_is_given_back(gw: Gateway, reservation: Reservation) -> None:
    await end(reservation)
    assert (gw.store.steps, gw.store.ledger) == (["release"], [])


async def test_what_a_replica_may_have_worked_on_is_settled_with_its_end(
    gw: Gateway, reservation: Reservation, state: ExchangeState
) -> None:
    tries(state, gw, reached=True)
    await end(reservation, LookupError())
    assert [record.outcome for record in gw.store.ledger] == ["internal_error"]


@pytest.mark.parametrize(("reached", "step"), [(True, "settle"), (False, "release")])
async def test_a_store_that_is_away_is_counted_and_breaks_nothing(
    gw: Gateway, reservation: Reservation, state: ExchangeState, *, reached: bool, step: str
) -> None:
    tries(state, gw, reached=reached)
    gw.store.away = {step}
    await end(reservation)
    assert gw.metric("tollway_settle_failures_total") == 1
    assert not state.billed
    gw.store.away = set()
    await gw.outbox.send_owed()
    await gw.replay.send_owed()
    assert gw.store.steps == [step]
    assert gw.store.ledger == ([state.final] if reached else [])


async def test_of_an_unanswered_reserve_the_release_is_owed_and_not_waited_for(
    gw: Gateway, reservation: Reservation, state: ExchangeState
) -> None:
    state.admitted = None
    await end(reservation, LedgerUnavailable())
    assert gw.store.steps == []
    await gw.outbox.send_owed()
    assert gw.store.steps == ["release"]


async def test_what_is_sent_to_the_ledger_is_the_last_word(
    gw: Gateway, reservation: Reservation, state: ExchangeState
) -> None:
    tries(state, gw, reached=True)
    gw.store.away = {"settle"}
    await reservation.settle()
    await end(reservation, LookupError())
    gw.store.away = set()
    await gw.replay.send_owed()
    assert (state.outcome, [record.outcome for record in gw.store.ledger]) == ("ok", ["ok"])


async def test_a_release_ends_though_we_are_cancelled(gw: Gateway, reservation: Reservation) -> None:
    gw.store.held["release"] = answered = asyncio.Event()
    task = asyncio.create_task(end(reservation))
    await until(lambda: gw.store.steps)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
