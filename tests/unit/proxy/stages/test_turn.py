import pytest

from engine.faults import ConnectFailed, UpstreamBroken
from policies.estimate import HOLD_US_START
from policies.retry import FREE_PER_S, WINDOW_S
from proxy.call import Call
from proxy.errors import ApiError, Code
from proxy.stages.turn import HoldTimes
from proxy.tally import Tally
from tests.unit.proxy.gateway import Gateway


async def test_a_place_is_held_for_the_block(gw: Gateway, asked: Call, tally: Tally) -> None:
    tally.max_completion = 100
    with gw.exchange.take_turn(asked, tally, set()) as replica:
        assert (replica.name, replica.inflight_sequences) == ("a", 2)
        assert replica.inflight_tokens == asked.request.text_bytes + 2 * 100
        assert gw.metric("tollway_inflight_requests", replica="a") == 1
        with gw.exchange.take_turn(asked, tally, set()) as other:
            assert other.name == "b"
    assert (tally.replica, tally.attempts) == ("b", 2)
    gw.assert_no_place_is_held()


def test_a_retry_goes_elsewhere_and_is_counted_as_one(gw: Gateway, asked: Call, tally: Tally) -> None:
    with gw.exchange.take_turn(asked, tally, {"a"}) as replica:
        assert replica.name == "b"
    assert gw.metric("tollway_route_total", replica="b", reason="retry") == 1
    with pytest.raises(ApiError) as caught, gw.exchange.take_turn(asked, tally, {"a", "b"}):
        pytest.fail("both were tried")
    assert caught.value.code is Code.NO_REPLICA


async def test_retries_end_with_their_budget(gw: Gateway, asked: Call, tally: Tally) -> None:
    def retry() -> None:
        with gw.exchange.take_turn(asked, tally, {"a"}):
            pass

    for _ in range(FREE_PER_S * WINDOW_S):
        retry()
    with pytest.raises(ApiError) as caught:  # noqa: PT012 (the clock may have given more)
        while True:
            retry()
    assert caught.value.code is Code.UPSTREAM_ERROR
    gw.assert_no_place_is_held()


@pytest.mark.parametrize(("fault", "healthy"), [(ConnectFailed(), False), (UpstreamBroken(), True)])
async def test_only_a_replica_that_takes_no_connection_is_down(
    gw: Gateway, asked: Call, tally: Tally, fault: Exception, *, healthy: bool
) -> None:
    with pytest.raises(type(fault)), gw.exchange.take_turn(asked, tally, set()):
        raise fault
    assert gw.pools["demo"]["a"].healthy is healthy
    gw.assert_no_place_is_held()


def test_how_long_requests_take_is_learned_for_each_model() -> None:
    holds = HoldTimes()
    for _ in range(200):
        holds.ended("demo", 1_000_000)
    assert holds.expected_us("demo") == pytest.approx(1_000_000, rel=0.01)
    assert holds.expected_us("other") == HOLD_US_START
