from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.faults import (
    ConnectFailed,
    Declined,
    EngineRefused,
    UpstreamBroken,
    UpstreamFault,
    UpstreamTimeout,
)
from engine.fleet.replica import Replica
from engine.protocols.usage import Usage
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.catalog import Catalog
from proxy.settings.loading import parse
from tests.unit.proxy.gateway import CONFIG
from tests.unit.proxy.test_call import CHAT_BODY, call


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Give an attempt at a call of two choices, 64 tokens each."""
    asked = call(Catalog.of(parse(CONFIG, {}, folder=tmp_path)), CHAT_BODY | {"n": 2})
    return Attempt(Admitted(asked, asked.ask(hold_us=1), 64, (), at=0.0), Replica("a", "http://a", 4).lease(2, 1, 1))


@pytest.mark.parametrize("impossible", [Usage(10, 0, 2 * 64 + 1), Usage(2**63, 0, 1)])
def test_an_engine_that_says_more_than_it_was_given_is_not_believed(attempt: Attempt, impossible: Usage) -> None:
    attempt.observed(Usage(10, 0, 2 * 64))
    with pytest.raises(UpstreamBroken):
        attempt.observed(impossible)
    assert attempt.usage == Usage(10, 0, 2 * 64)


def test_what_came_to_nothing_is_written_off(attempt: Attempt) -> None:
    attempt.was_sent()
    attempt.observed(Usage(10, 4, 5))
    assert attempt.known
    attempt.write_off(UpstreamBroken())
    assert (attempt.wasted_tokens, attempt.known, attempt.reached) == (15, False, True)


@pytest.mark.parametrize(
    ("fault", "counts"),
    [(Declined(status), True) for status in (400, 413, 422, 500)]
    + [(Declined(status), False) for status in (401, 403, 404, 408, 429, 502, 503, 504, None)]
    + [(UpstreamBroken(), False), (ConnectFailed(), False), (UpstreamTimeout(), True)],
    ids=str,
)
def test_what_an_outage_spoiled_counts_for_nothing(attempt: Attempt, fault: UpstreamFault, *, counts: bool) -> None:
    attempt.was_sent()
    attempt.write_off(fault)
    assert attempt.reached is counts


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        ({}, "cut"),
        ({"end": b"data: [DONE]"}, "ok"),
        ({"fault": UpstreamTimeout()}, "timeout"),
        ({"fault": Declined(503)}, "status_503"),
        ({"fault": Declined(10**9)}, "error_frame"),
        ({"fault": EngineRefused(400, b"")}, "refused_400"),
    ],
)
def test_an_end_has_a_name_for_the_log(attempt: Attempt, known: dict[str, Any], outcome: str) -> None:
    assert replace(attempt, **known).outcome == outcome


def test_what_was_refused_was_seen_and_used_nothing(attempt: Attempt) -> None:
    attempt.was_sent()
    assert attempt.unobserved
    attempt.fault = EngineRefused(400, b"")
    assert not attempt.unobserved
