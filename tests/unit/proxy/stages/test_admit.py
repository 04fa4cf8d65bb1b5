"""What is held while an exchange runs. How it ends is told in test_settle.py and test_exchange.py."""

import pytest

from proxy.call import Call
from proxy.errors import ApiError, Code
from proxy.tally import Tally
from tests.unit.proxy.gateway import Gateway


async def test_everything_that_could_be_used_is_held_for_the_block(gw: Gateway, asked: Call, tally: Tally) -> None:
    async with gw.exchange.admit(asked, tally):
        bound = asked.inquiry.text_bytes + asked.model.template_tokens
        assert gw.used() == {"tokens": bound + 2 * 100, "requests": 1, "concurrent": 1}
        assert gw.metric("tollway_reservations_open") == 1
        assert gw.store.pending == [tally.request_id]
        assert (tally.max_completion, tally.clamped) == (100, False)
        assert [standing.used for standing in tally.standings] == list(gw.used().values())
    assert gw.used() == {"tokens": 0, "requests": 0, "concurrent": 0}
    gw.assert_nothing_is_held()


async def test_a_refusal_takes_nothing_and_tells_how_all_limits_stand(gw: Gateway, asked: Call, tally: Tally) -> None:
    others = [Tally(tally.endpoint, "I", principal=tally.principal, call=asked) for _ in range(3)]
    async with (
        gw.exchange.admit(asked, others[0]),
        gw.exchange.admit(asked, others[1]),
        gw.exchange.admit(asked, others[2]),
    ):
        with pytest.raises(ApiError) as caught:
            async with gw.exchange.admit(asked, tally):
                pytest.fail("there is no place for a fourth")
        assert caught.value.code is Code.CONCURRENCY_LIMIT_EXCEEDED
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 5
        assert len(tally.standings) == 3
        assert gw.used()["requests"] == 3
    gw.assert_nothing_is_held()
