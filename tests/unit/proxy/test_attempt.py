from pathlib import Path

import pytest

from engine.faults import UpstreamBroken
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
    attempt.observed(Usage(10, 4, 5))
    assert attempt.known
    fault = UpstreamBroken()
    attempt.failed(fault)
    assert (attempt.fault, attempt.wasted_tokens, attempt.known) == (fault, 15, False)
