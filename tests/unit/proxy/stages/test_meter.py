import logging

import orjson
import pytest

from policies.quota import Limit, LimitStatus, Per, Refused, Scope, Unit
from proxy.errors import ApiError, Code, refusal
from proxy.exchange_state import ExchangeState
from proxy.observe.logs import JsonFormatter
from tests.unit.proxy.gateway import Gateway


def outcomes(gw: Gateway) -> dict[str, float]:
    return {outcome: gw.metric("tollway_requests_total", outcome=outcome) for outcome in ("ok", "queue_full")}


def test_what_was_billed_is_what_is_told(gw: Gateway, state: ExchangeState, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    state.final, state.billed = state.record()._replace(completion_tokens=7), True
    state.outcome = "queue_full"
    gw.exchange.meter(state)
    (line,) = caplog.records
    assert line.exchange is state.final  # type: ignore[attr-defined]
    assert outcomes(gw) == {"ok": 1, "queue_full": 0}
    assert gw.metric("tollway_tokens_total", kind="completion") == 7
    assert gw.metric("tollway_request_seconds_count") == 1


def test_what_was_not_billed_is_told_and_not_timed(gw: Gateway, state: ExchangeState) -> None:
    state.outcome = "queue_full"
    gw.exchange.meter(state)
    assert outcomes(gw) == {"ok": 0, "queue_full": 1}
    assert gw.metric("tollway_request_seconds_count") == 0


def test_what_is_not_yet_billed_is_told_and_not_counted(
    gw: Gateway, state: ExchangeState, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    state.final = state.record()
    gw.exchange.meter(state)
    (line,) = caplog.records
    assert line.exchange is state.final  # type: ignore[attr-defined]
    assert outcomes(gw) == {"ok": 0, "queue_full": 0}


def test_a_correction_is_counted_and_told(gw: Gateway, state: ExchangeState, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw.exchange.meter.corrected(state.record()._replace(completion_tokens=-3))
    assert [line.message for line in caplog.records] == ["correction"]
    assert gw.metric("tollway_credited_tokens_total", kind="completion") == 3


def test_a_refusal_names_its_limit_what_was_needed_and_what_is_left(
    gw: Gateway, state: ExchangeState, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    limit = Limit(Scope.USER, Unit.TOKENS, 10_000, Per.MINUTE)
    error = refusal(Refused(limit, 4_200_000, (LimitStatus(limit, 120, 59_000_000, 9_880),)), 300)
    assert error.message == (
        "The limit `user-tokens-minute` of 10000 is reached: it has 120 left, and the request needs 300; "
        "try again in 5 s."
    )
    state.failed(error)
    gw.exchange.meter(state)
    (line,) = caplog.records
    told = {"limit": "user-tokens-minute", "reason": "rate_limit_exceeded", "needed": 300, "left": 120}
    assert orjson.loads(JsonFormatter().format(line))["refused"] == told
    assert gw.metric("tollway_refusals_total", limit="user-tokens-minute", reason="rate_limit_exceeded") == 1


@pytest.mark.parametrize(("code", "refused"), [(Code.QUEUE_FULL, 1), (Code.OVERLOADED, 1), (Code.NO_REPLICA, 0)])
def test_a_refusal_by_no_limit_is_counted_and_a_fault_is_none(
    gw: Gateway, state: ExchangeState, code: Code, refused: int
) -> None:
    state.failed(ApiError(code, "No."))
    gw.exchange.meter(state)
    assert gw.metric("tollway_refusals_total", limit="", reason=code) == refused
