import asyncio

import pytest

from engine.protocols.usage import Usage
from proxy.call import Call
from proxy.stages.settle import Reservation
from proxy.tally import Tally
from tests.unit.proxy.gateway import Gateway, until


@pytest.fixture
def reservation(gw: Gateway, asked: Call, tally: Tally) -> Reservation:
    return Reservation(gw.outbox, asked, tally)


async def test_it_ends_once(gw: Gateway, reservation: Reservation, tally: Tally) -> None:
    tally.reached, tally.usage = True, Usage(17, 0, 6)
    await reservation.settle()
    await reservation.settle()
    await reservation.end(None)
    assert gw.store.steps == ["settle"]
    assert gw.store.ledger == [tally.final]


async def test_what_no_replica_saw_is_given_back(gw: Gateway, reservation: Reservation) -> None:
    await reservation.end(None)
    assert (gw.store.steps, gw.store.ledger) == (["release"], [])


async def test_what_a_replica_may_have_worked_on_is_settled_with_its_end(
    gw: Gateway, reservation: Reservation, tally: Tally
) -> None:
    tally.reached = True
    await reservation.end(LookupError())
    assert [record.outcome for record in gw.store.ledger] == ["internal_error"]


@pytest.mark.parametrize(("reached", "step"), [(True, "settle"), (False, "release")])
async def test_a_store_that_is_away_is_counted_and_breaks_nothing(
    gw: Gateway, reservation: Reservation, tally: Tally, *, reached: bool, step: str
) -> None:
    tally.reached = reached
    gw.store.away = {step}
    await reservation.end(None)
    assert gw.metric("tollway_settle_failures_total") == 1
    assert not tally.billed
    gw.store.away = set()
    await gw.outbox.send_owed()
    await gw.replay.send_owed()
    assert gw.store.steps == [step]
    assert gw.store.ledger == ([tally.final] if reached else [])


async def test_of_an_unanswered_reserve_the_release_is_owed_and_not_waited_for(
    gw: Gateway, reservation: Reservation
) -> None:
    reservation.unanswered()
    await reservation.end(None)
    assert gw.store.steps == []
    await gw.outbox.send_owed()
    assert gw.store.steps == ["release"]


async def test_what_is_sent_to_the_ledger_is_the_last_word(gw: Gateway, reservation: Reservation, tally: Tally) -> None:
    tally.reached, tally.outcome = True, "ok"
    gw.store.away = {"settle"}
    await reservation.settle()
    await reservation.end(LookupError())
    gw.store.away = set()
    await gw.replay.send_owed()
    assert (tally.outcome, [record.outcome for record in gw.store.ledger]) == ("ok", ["ok"])


async def test_a_release_ends_though_we_are_cancelled(gw: Gateway, reservation: Reservation) -> None:
    gw.store.held["release"] = answered = asyncio.Event()
    task = asyncio.create_task(reservation.end(None))
    await until(lambda: gw.store.steps)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    answered.set()
    with pytest.raises(asyncio.CancelledError):
        await task
