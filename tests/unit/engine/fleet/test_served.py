"""Who is asked by a name that it does not serve, or with a key that it does not take, is told so and given no work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from engine.faults import ConnectFailed, UpstreamFault
from engine.fleet import health, served
from engine.fleet.replica import Replica
from engine.fleet.trouble import SLOW
from engine.wire.client import UpstreamResponse
from engine.wire.credentials import NONE, Credentials
from tests.transcripts import transcript
from tests.unit.engine.fleet.test_health import _Answer

Listed = tuple[int, bytes] | UpstreamFault
MODELS = transcript("003-models").body
SERVED = orjson.loads(MODELS)["data"][0]["id"]
KEY = Credentials(b"authorization: Bearer sk-secret\r\n")


class _Whole(_Answer):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self._body = body

    async def read(self, bytes_max: int) -> bytes:
        return self._body


class Engine:
    """An `engine.wire.client.Upstream` that lives, and lists its models as it is told; the last answer stays."""

    def __init__(self, *lists: Listed) -> None:
        self._lists = [*lists]
        self.asked = 0
        self.shown: list[Credentials] = []

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, credentials: Credentials = NONE, **_: Any
    ) -> AsyncIterator[UpstreamResponse]:
        self.shown.append(credentials)
        if url.endswith("/health"):
            yield _Answer(200)
            return
        assert (method, url) == ("GET", "http://r/v1/models")
        self.asked += 1
        listed = self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]
        if isinstance(listed, UpstreamFault):
            raise listed
        yield _Whole(*listed)


def replica(**more: Any) -> Replica:
    return Replica("r", "http://r", sequences=1, **{"model": "m"} | more)


async def cause(one: Replica, *lists: Listed) -> str | None:
    good = await health.check(one, Engine(*lists))
    assert good is (one.trouble is None)
    assert one.trouble is None or not one.trouble.gone
    return one.trouble and one.trouble.cause


@pytest.mark.parametrize("names", [{"model": SERVED}, {"model": "other", "serves": SERVED}])
async def test_who_lists_the_name_is_asked_by_it(names: dict[str, str]) -> None:
    assert await cause(replica(**names), (200, MODELS)) is None


@pytest.mark.parametrize("names", [{"model": "m"}, {"model": SERVED, "serves": "m"}])
async def test_who_does_not_list_it_is_told_so(names: dict[str, str]) -> None:
    told = await cause(replica(**names), (200, MODELS))
    assert told == "it serves no model named 'm'; upstream_model says by which name it is asked"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_taken_or_not_there_is_told_and_not_shown(status: int) -> None:
    refusal = (status, b'{"error":"Unauthorized"}')
    assert await cause(replica(), refusal) == f"HTTP status {status}: it wants a key (api_key_file)"
    engine, one = Engine(refusal), replica(credentials=KEY)
    await health.check(one, engine)
    assert one.cause == f"HTTP status {status}: it does not take the key in api_key_file"
    assert engine.shown == [KEY, KEY]


@pytest.mark.parametrize(
    "listed",
    [(404, b""), (429, b""), (503, b"{}"), (200, b"no JSON"), (200, b"[]"), (200, b'{"data": [1]}'), ConnectFailed()],
    ids=str,
)
async def test_who_tells_nothing_is_believed(listed: Listed) -> None:
    assert await cause(replica(), listed) is None


async def looks(one: Replica, engine: Engine, count: int) -> list[bool]:
    return [await health.check(one, engine) for _ in range(count)]


async def test_it_is_asked_now_and_then_and_at_once_where_the_answer_was_no() -> None:
    engine, one = Engine((200, b'{"data": []}'), (401, b""), (200, MODELS)), replica(model=SERVED)
    assert await looks(one, engine, 3) == [False, False, True]
    assert await looks(one, engine, served.LOOKS) == [True] * served.LOOKS
    assert engine.asked == 3
    await looks(one, engine, 1)
    assert engine.asked == 4


async def test_another_life_is_asked_anew() -> None:
    engine, one = Engine((200, MODELS), (200, b'{"data": []}')), replica(model=SERVED)
    assert await looks(one, engine, 2) == [True, True]
    one.lost(SLOW)
    assert await looks(one, engine, 1) == [False]
