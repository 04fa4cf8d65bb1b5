import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.faults import EngineRefused, UpstreamBroken
from engine.fleet.replica import Replica
from engine.protocols.chat import CHAT
from engine.protocols.usage import Usage
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.billing.record import Source
from proxy.catalog import Catalog
from proxy.errors import ApiError, ClientGone, Code
from proxy.exchange_state import ExchangeState
from proxy.identity.principal import Principal
from proxy.settings.loading import parse
from tests.unit.proxy.gateway import CONFIG
from tests.unit.proxy.test_call import CHAT_BODY, call


@pytest.fixture
def state() -> ExchangeState:
    return ExchangeState(CHAT, "01JC0000000000000000000000")


@pytest.fixture
def admitted(state: ExchangeState, tmp_path: Path) -> ExchangeState:
    """Give the exchange of a call that was granted."""
    state.principal = Principal("acme", "ada", "pro")
    state.call = asked = call(Catalog.of(parse(CONFIG, {}, folder=tmp_path)), CHAT_BODY | {"n": 2, "stream": True})
    state.admitted = Admitted(asked, asked.ask(hold_us=1), 64, (), at=10.1)
    return state


def tries(state: ExchangeState, **known: Any) -> Attempt:
    """Let an admitted exchange try a replica, of which this much is known."""
    assert state.admitted is not None
    attempt = Attempt(state.admitted, Replica("a", "http://a", 4).lease(2, 1, 1), **known)
    state.attempts.append(attempt)
    return attempt


def test_of_a_request_that_was_not_read_nothing_is_claimed(state: ExchangeState) -> None:
    record = state.record()
    assert (record.tenant, record.user, record.plan, record.lane, record.model, record.replica) == ("",) * 6
    assert (record.n, record.attempts, record.queue_ms, record.ttft_ms, record.charge_picos) == (0, 0, 0, None, 0)
    assert record.finished_at >= record.started_at


def test_a_record_says_what_was_asked_and_what_it_costs(admitted: ExchangeState) -> None:
    tries(admitted, usage=Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=7))
    record = admitted.record()
    assert (record.tenant, record.user, record.plan, record.lane, record.model) == (
        "acme",
        "ada",
        "pro",
        "interactive",
        "demo",
    )
    assert (record.endpoint, record.n, record.stream, record.source) == ("chat", 2, True, Source.CUT)
    # 60 at 1, 40 at half of it, 7 at 2 micro-euros.
    assert (record.price_version, record.currency, record.charge_picos) == ("7", "EUR", 94_000_000)


def test_request_ids_are_never_the_same_twice() -> None:
    assert len({ExchangeState(CHAT, "I").request_id for _ in range(1_000)}) == 1_000


def test_what_is_wasted_is_added_up_and_not_billed(admitted: ExchangeState) -> None:
    for usage in (Usage(10, 0, 5), Usage(), Usage(10, 8, 1)):
        tries(admitted, usage=usage).write_off(UpstreamBroken())
    record = admitted.record()
    assert record.wasted_tokens == 26
    assert (record.prompt_tokens, record.completion_tokens, record.charge_picos) == (0, 0, 0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiError(Code.QUEUE_FULL, "Full."), "queue_full"),
        (ClientGone(), "client_closed"),
        (EngineRefused(400, b""), "invalid_request"),
        (asyncio.CancelledError(), "shutdown"),
        (LookupError(), "internal_error"),
    ],
)
def test_an_end_has_a_name(state: ExchangeState, error: BaseException, outcome: str) -> None:
    state.failed(error)
    assert state.record().outcome == outcome


def test_what_is_in_the_ledger_is_not_renamed(state: ExchangeState) -> None:
    state.final = state.record()
    state.failed(ClientGone())
    assert state.record().outcome == "ok"


def test_waits_are_told_once_they_are_over(admitted: ExchangeState) -> None:
    admitted.started = 10.0
    tries(admitted, turned=10.35, first_token=11.5)
    record = admitted.record()
    assert (record.queue_ms, record.ttft_ms) == (250, 1500)


@pytest.mark.parametrize(
    ("times", "tried", "overhead_s"),
    [
        ({"started": 10.0, "ended": 10.5}, None, 0.5),
        ({"started": 10.0, "body_read": 10.25, "ended": 10.5}, None, 0.25),
        ({"started": 10.0, "body_read": 10.25, "ended": 12.25}, {"dispatched": 10.5, "ended": 12.0}, 0.5),
        ({"started": 10.0, "body_read": 10.25, "ended": 12.25}, {"dispatched": 10.5}, 0.25),
    ],
    ids=["no body", "refused", "relayed", "cut"],
)
def test_overhead_is_what_the_gateway_itself_took(
    admitted: ExchangeState, times: dict[str, float], tried: dict[str, float] | None, overhead_s: float
) -> None:
    for name, at in times.items():
        setattr(admitted, name, at)
    if tried is not None:
        tries(admitted, **tried)
    assert admitted.overhead_s == pytest.approx(overhead_s)
