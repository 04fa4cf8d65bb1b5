import errno

import pytest

from engine.faults import ConnectFailed, UpstreamBroken, UpstreamFault
from policies.estimate import HOLD_US_START
from policies.retry import FREE_PER_S, WINDOW_S
from policies.routing import Job
from proxy.attempt import Attempt
from proxy.call import Call
from proxy.errors import ApiError, Code
from proxy.exchange_state import ExchangeState
from tests.unit.proxy.gateway import Gateway
from tests.unit.proxy.stages.conftest import granted


@pytest.fixture
def job(asked: Call) -> Job:
    return granted(asked, 100).job()


async def test_a_place_is_held_for_the_block(gw: Gateway, asked: Call, job: Job) -> None:
    async with gw.exchange.turns.take(job) as turn:
        replica = turn.lease.replica
        assert (replica.name, replica.inflight_sequences) == ("a", 2)
        assert replica.inflight_tokens == asked.request.prompt.text_bytes + 2 * 100
        assert gw.metric("tollway_inflight_requests", replica="a") == 1
        async with gw.exchange.turns.take(job) as other:
            assert other.lease.replica.name == "b"
    gw.assert_no_place_is_held()


async def test_a_retry_goes_elsewhere_and_is_counted_as_one(gw: Gateway, job: Job) -> None:
    async with gw.exchange.turns.take(job.without("a")) as turn:
        assert turn.lease.replica.name == "b"
    assert gw.metric("tollway_route_total", replica="b", reason="retry") == 1
    with pytest.raises(ApiError) as caught:
        async with gw.exchange.turns.take(job.without("a").without("b")):
            pytest.fail("both were tried")
    assert caught.value.code is Code.NO_REPLICA


async def test_retries_end_with_their_budget(gw: Gateway, job: Job) -> None:
    async def retry() -> None:
        async with gw.exchange.turns.take(job.without("a")):
            pass

    for _ in range(FREE_PER_S * WINDOW_S):
        await retry()
    with pytest.raises(ApiError) as caught:  # noqa: PT012 (the clock may have given more)
        while True:
            await retry()
    assert caught.value.code is Code.UPSTREAM_ERROR
    gw.assert_no_place_is_held()


@pytest.mark.parametrize(("fault", "healthy"), [(ConnectFailed(), False), (UpstreamBroken(), True)])
async def test_only_a_replica_that_takes_no_connection_is_down(
    gw: Gateway, job: Job, fault: UpstreamFault, *, healthy: bool
) -> None:
    async with gw.exchange.turns.take(job) as turn:
        turn.failed(fault)
    assert gw.pools["demo"]["a"].healthy is healthy
    gw.assert_no_place_is_held()


async def test_a_replica_found_down_is_told_once_with_its_address_and_the_cause(
    gw: Gateway, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    fault = ConnectFailed("Connection refused")
    fault.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "")
    async with gw.exchange.turns.take(job) as one, gw.exchange.turns.take(job) as other:
        one.failed(fault)
        other.failed(fault)
        one.failed(fault)
    told = [(line.msg, vars(line)["replica"], vars(line)["url"], vars(line)["reason"]) for line in caplog.records]
    assert told == [("replica_down", name, f"http://{name}", "Connection refused") for name in ("a", "b")]


def test_from_an_exchange_that_ended_it_is_learned_how_long_its_turns_took(
    gw: Gateway, asked: Call, state: ExchangeState
) -> None:
    lease = gw.pools["demo"]["a"].lease(1, 1, 1)
    state.attempts = [Attempt(granted(asked), lease, turned=10.0, ended=11.0)] * 200
    gw.exchange.turns.learn(state)
    assert gw.holds.expected_us("demo") == pytest.approx(1_000_000, rel=0.01)
    assert gw.holds.expected_us("other") == HOLD_US_START
