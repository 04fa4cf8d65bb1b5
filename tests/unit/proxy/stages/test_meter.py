import logging

import pytest

from proxy.exchange_state import ExchangeState
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
