import pytest

from engine.fleet.abort import DEV_MODE_ABORT, abort
from engine.fleet.replica import Replica
from tests.unit.proxy.played_upstream import PlayedUpstream


async def test_an_abort_names_what_it_aborts() -> None:
    upstream, replica = PlayedUpstream(), Replica("a", "http://a", 1, abort_path=DEV_MODE_ABORT)
    assert await abort(replica, upstream, ["chatcmpl-R"])
    assert upstream.aborted == [["chatcmpl-R"]]


async def test_everything_in_flight_is_never_aborted() -> None:
    with pytest.raises(AssertionError):
        await abort(Replica("a", "http://a", 1), PlayedUpstream(), [])
