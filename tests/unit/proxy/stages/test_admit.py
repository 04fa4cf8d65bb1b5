"""What is held while an exchange runs. How it ends is told in test_settle.py and test_exchange.py."""

import pytest

from engine.protocols.usage import Usage
from proxy.call import Call
from proxy.errors import Code, IdempotencyKeyReused, LimitRefused
from proxy.exchange_state import ExchangeState
from tests.unit.proxy.gateway import Gateway
from tests.unit.proxy.stages.conftest import admitting, begun, tries


async def test_everything_that_could_be_used_is_held_for_the_block(
    gw: Gateway, asked: Call, state: ExchangeState
) -> None:
    async with admitting(gw, state):
        bound = asked.request.prompt.text_bytes + asked.model.template_tokens
        assert gw.used() == {"tokens": bound + 2 * 100, "requests": 1, "concurrent": 1}
        assert gw.metric("tollway_reservations_open") == 1
        assert gw.store.pending == [state.request_id]
        admitted = state.admitted
        assert admitted is not None
        assert (admitted.max_completion, admitted.ours) == (100, False)
        assert [status.used for status in admitted.statuses] == list(gw.used().values())
    assert gw.used() == {"tokens": 0, "requests": 0, "concurrent": 0}
    gw.assert_nothing_is_held()


async def test_a_refusal_takes_nothing_and_tells_how_all_limits_stand(
    gw: Gateway, asked: Call, state: ExchangeState
) -> None:
    async with admitting(gw, begun(asked)), admitting(gw, begun(asked)), admitting(gw, begun(asked)):
        with pytest.raises(LimitRefused) as caught:
            async with admitting(gw, state):
                pytest.fail("there is no place for a fourth")
        assert caught.value.code is Code.CONCURRENCY_LIMIT_EXCEEDED
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 5
        assert len(caught.value.statuses) == 3
        assert gw.used()["requests"] == 3
    gw.assert_nothing_is_held()


async def test_a_key_of_the_clients_own_admits_one_request(gw: Gateway, asked: Call, state: ExchangeState) -> None:
    again = begun(asked)
    async with admitting(gw, state, "order 7") as reservation:
        with pytest.raises(IdempotencyKeyReused) as caught:
            async with admitting(gw, again, "order 7"):
                pytest.fail("the key belongs to another")
        assert (caught.value.first, state.request_id in caught.value.message) == (state.request_id, True)
        assert gw.used()["requests"] == 1
        tries(state, gw, reached=True, usage=Usage(17, 0, 3))
        await reservation.settle()
    with pytest.raises(IdempotencyKeyReused):
        async with admitting(gw, again, "order 7"):
            pytest.fail("also after the first has ended")
    gw.assert_nothing_is_held()


async def test_what_no_replica_saw_may_be_asked_again(gw: Gateway, asked: Call, state: ExchangeState) -> None:
    async with admitting(gw, state, "order 7"):
        pass
    again = begun(asked)
    async with admitting(gw, again, "order 7"):
        assert gw.store.pending == [again.request_id]
