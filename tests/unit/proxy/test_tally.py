import asyncio
from pathlib import Path

import pytest

from engine.faults import EngineRefused, UpstreamBroken
from engine.protocols.openai import CHAT
from engine.protocols.usage import Usage
from proxy.billing.record import Source
from proxy.catalog import Catalog
from proxy.errors import ApiError, Code
from proxy.http.downstream import ClientGone
from proxy.identity.principal import Principal
from proxy.settings.loading import parse
from proxy.tally import Stopwatch, Tally
from tests.unit.proxy.gateway import CONFIG
from tests.unit.proxy.test_call import CHAT_BODY, call


@pytest.fixture
def tally() -> Tally:
    return Tally(CHAT, "01JC0000000000000000000000")


@pytest.fixture
def admitted(tally: Tally, tmp_path: Path) -> Tally:
    """Give the tally of a call that was granted."""
    tally.principal = Principal("acme", "ada", "pro")
    tally.call = call(Catalog.of(parse(CONFIG, {}, folder=tmp_path)), CHAT_BODY | {"n": 2, "stream": True})
    return tally


def test_of_a_request_that_was_not_read_nothing_is_claimed(tally: Tally) -> None:
    record = tally.record()
    assert (record.tenant, record.user, record.plan, record.lane, record.model, record.replica) == ("",) * 6
    assert (record.n, record.attempts, record.queue_ms, record.ttft_ms, record.charge_micros) == (0, 0, 0, None, 0)
    assert record.finished_at >= record.started_at


def test_a_record_says_what_was_asked_and_what_it_costs(admitted: Tally) -> None:
    admitted.usage = Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=7)
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
    assert (record.price_version, record.currency, record.charge_micros) == ("7", "EUR", 60 + 20 + 14)


def test_request_ids_are_never_the_same_twice() -> None:
    assert len({Tally(CHAT, "I").request_id for _ in range(1_000)}) == 1_000


def test_what_is_wasted_is_added_up_and_not_billed(admitted: Tally) -> None:
    for usage in (Usage(10, 0, 5), Usage(), Usage(10, 8, 1)):
        admitted.usage = usage
        admitted.wasted()
    record = admitted.record()
    assert record.wasted_tokens == 26
    assert (record.prompt_tokens, record.completion_tokens, record.charge_micros) == (0, 0, 0)


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
def test_an_end_has_a_name(tally: Tally, error: BaseException, outcome: str) -> None:
    tally.failed(error)
    assert tally.record().outcome == outcome


def test_what_is_in_the_ledger_is_not_renamed(tally: Tally) -> None:
    tally.final = tally.record()
    tally.failed(ClientGone())
    assert tally.record().outcome == "ok"


def test_waits_are_told_once_they_are_over(admitted: Tally) -> None:
    admitted.watch = Stopwatch(started=10.0, admitted=10.1, turned=10.35, first_token=11.5)
    record = admitted.record()
    assert (record.queue_ms, record.ttft_ms) == (250, 1500)


@pytest.mark.parametrize(
    ("watch", "overhead_s"),
    [
        (Stopwatch(started=10.0, ended=10.5), 0.5),
        (Stopwatch(started=10.0, body_read=10.25, ended=10.5), 0.25),
        (Stopwatch(started=10.0, body_read=10.25, dispatched=10.5, upstream_ended=12.0, ended=12.25), 0.5),
        (Stopwatch(started=10.0, body_read=10.25, dispatched=10.5, ended=12.25), 0.25),
    ],
    ids=["no body", "refused", "relayed", "cut"],
)
def test_overhead_is_what_the_gateway_itself_took(watch: Stopwatch, overhead_s: float) -> None:
    assert watch.overhead_s == pytest.approx(overhead_s)


@pytest.mark.parametrize("impossible", [Usage(10, 0, 2 * 64 + 1), Usage(2**63, 0, 1)])
def test_an_engine_that_says_more_than_it_was_given_is_not_believed(admitted: Tally, impossible: Usage) -> None:
    admitted.max_completion = 64
    admitted.observed(Usage(10, 0, 2 * 64))
    with pytest.raises(UpstreamBroken):
        admitted.observed(impossible)
    assert admitted.usage == Usage(10, 0, 2 * 64)
