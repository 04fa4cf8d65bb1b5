import pytest

from engine.fleet.abort import DEV_MODE_ABORT, abort, ids_of
from engine.fleet.replica import Replica
from engine.protocols.openai import CHAT, COMPLETIONS, Endpoint
from tests.unit.proxy.played_upstream import PlayedUpstream


@pytest.mark.parametrize(
    ("endpoint", "prompts", "ids"),
    [(CHAT, 1, ["chatcmpl-R"]), (COMPLETIONS, 1, ["cmpl-R-0"]), (COMPLETIONS, 3, ["cmpl-R-0", "cmpl-R-1", "cmpl-R-2"])],
)
def test_requests_have_the_ids_of_their_answers(endpoint: Endpoint, prompts: int, ids: list[str]) -> None:
    # Seen on vLLM 0.32: `cmpl-R` alone aborts nothing, one chat id covers all n choices.
    assert ids_of(endpoint, "R", prompts) == ids


async def test_an_abort_names_what_it_aborts() -> None:
    upstream, replica = PlayedUpstream(), Replica("a", "http://a", 1, abort_path=DEV_MODE_ABORT)
    assert await abort(replica, upstream, ["chatcmpl-R"])
    assert upstream.aborted == [["chatcmpl-R"]]


async def test_everything_in_flight_is_never_aborted() -> None:
    with pytest.raises(AssertionError):
        await abort(Replica("a", "http://a", 1), PlayedUpstream(), [])
