"""When a replica is given work: one good answer is enough, and one bad answer is not."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from engine.faults import ConnectFailed, ResponseTooLarge, UpstreamBroken, UpstreamFault, UpstreamTimeout
from engine.fleet import health
from engine.fleet.replica import SILENCES_MAX, Replica
from engine.wire.client import UpstreamResponse
from engine.wire.connection import Take
from engine.wire.credentials import NONE, Credentials
from engine.wire.transport import Sent, unheard

Look = int | UpstreamFault | None
"""The status that a look at `/health` meets, or the fault; None is silence."""


class Health:
    """An `engine.wire.client.Upstream` whose replica answers each look in turn, and then says nothing more."""

    def __init__(self, looks: Iterable[Look]) -> None:
        self._looks = iter(looks)
        self.urls: list[str] = []
        self.all_seen = asyncio.Event()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        credentials: Credentials = NONE,
        fields: bytes = b"",
        body: bytes = b"",
        sent: Sent = unheard,
    ) -> AsyncIterator[UpstreamResponse]:
        self.urls.append(f"{method} {url}")
        look = next(self._looks, "no more")
        if look == "no more":
            self.all_seen.set()
        if look is None or isinstance(look, str):
            await asyncio.Event().wait()
        if isinstance(look, UpstreamFault):
            raise look
        assert isinstance(look, int)
        yield _Answer(look)


class _Answer:
    def __init__(self, status: int) -> None:
        self.status = status

    async def pour(self, take: Take) -> None:
        take(b"")

    async def read(self, bytes_max: int) -> bytes:
        return b""


@pytest.fixture
def replica() -> Replica:
    return Replica("r", "http://replica", sequences=1)


@pytest.mark.parametrize(
    ("look", "healthy"),
    [
        (200, True),
        (503, False),
        (500, False),
        (404, False),
        (ConnectFailed(), False),
        (UpstreamBroken(), False),
        (UpstreamTimeout(), False),
        (ResponseTooLarge(), False),
    ],
)
async def test_only_a_200_is_healthy(replica: Replica, look: Look, *, healthy: bool) -> None:
    upstream = Health([look])
    assert await health.check(replica, upstream) is healthy
    assert upstream.urls == ["GET http://replica/health"]


async def test_silence_is_not_health(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ANSWER_S_MAX", 0.01)
    assert not await health.check(replica, Health([None]))


@asynccontextmanager
async def watched(replica: Replica, upstream: Health, changed: health.Changed) -> AsyncIterator[None]:
    """Look at a replica for the first time, and then again and again."""
    replica.healthy = await health.check(replica, upstream)
    changed(replica)
    async with health.HealthWatch(replica, upstream, changed, changed):
        yield


async def told(replica: Replica, looks: list[Look], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Watch a replica through these looks and return what was told of its health."""
    monkeypatch.setattr(health, "INTERVAL_S", 0)
    upstream, said = Health(looks), list[bool]()
    async with watched(replica, upstream, lambda each: said.append(each.healthy)):
        await upstream.all_seen.wait()
    return said


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([200], [True]),
        ([503], [False]),
        ([200, 200, 200], [True]),
        ([503, 200], [False, True]),
        ([200, 503, 503], [True]),
        ([200, 503, 503, ConnectFailed()], [True, False]),
        ([200, 503, 503, 200, 503, 503], [True]),
        ([200, 503, 503, 503, 200], [True, False, True]),
        ([200, 503, 503, 503, 503, 503], [True, False]),
    ],
)
async def test_three_bad_answers_in_a_row_or_one_good_one(
    replica: Replica, looks: list[Look], said: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await told(replica, looks, monkeypatch) == said


async def test_one_that_a_request_found_down_is_up_again_at_the_next_good_look(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0)
    upstream, said = Health([200, 200]), list[bool]()
    async with watched(replica, upstream, lambda each: said.append(each.healthy)):
        replica.healthy = False
        await upstream.all_seen.wait()
    assert said == [True, True]
    assert replica.healthy


@pytest.mark.parametrize(
    ("looks", "life"), [([200, 200], 0), ([200, 503, 503, 200], 0), ([200, 503, 503, 503, 200], 1)]
)
async def test_who_comes_back_after_it_was_down_has_a_new_life(
    replica: Replica, looks: list[Look], life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(replica, looks, monkeypatch)
    assert replica.life == life


REFUSED = ConnectFailed("Connection refused")
REFUSED.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "")


@pytest.mark.parametrize(
    ("looks", "bereaved"),
    [
        ([200, REFUSED, REFUSED, REFUSED], True),
        ([200, 503, 503, 503], True),
        ([200, REFUSED, REFUSED, REFUSED, 200], True),
        ([200, REFUSED, REFUSED, 200], False),
        ([200, UpstreamTimeout(), UpstreamTimeout(), UpstreamTimeout(), 200], False),
        ([200, *[UpstreamTimeout()] * 9, 200], False),
        ([200, *[UpstreamTimeout()] * 10, 200], True),
        ([200, *[404] * 11, 200], False),
    ],
)
async def test_what_runs_on_a_replica_is_bereaved_when_that_is_gone_and_not_when_it_is_silent(
    replica: Replica, looks: list[Look], monkeypatch: pytest.MonkeyPatch, *, bereaved: bool
) -> None:
    with replica.lease(1, 10, expected_end_us=1) as lease:
        hurried: list[bool] = []
        lease.hurry = lambda: hurried.append(lease.bereaved)
        await told(replica, looks, monkeypatch)
        assert lease.bereaved is bereaved
        assert hurried == [True] * bereaved


async def test_what_runs_on_a_replica_that_is_gone_is_hurried_at_every_look(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replica.lease(1, 10, expected_end_us=1) as lease:
        hurried: list[None] = []
        lease.hurry = lambda: hurried.append(None)
        await told(replica, [200, *[REFUSED] * 5], monkeypatch)
    assert len(hurried) == 3


@pytest.mark.parametrize(
    ("looks", "cause"),
    [
        ([200], None),
        ([404], "HTTP status 404"),
        ([200, REFUSED, REFUSED], None),
        ([200, REFUSED, REFUSED, REFUSED], "Connection refused"),
        ([503, 200], None),
    ],
)
async def test_a_replica_that_gets_no_work_says_why(
    replica: Replica, looks: list[Look], cause: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(replica, looks, monkeypatch)
    assert replica.cause == cause


async def test_a_silent_replica_is_out_until_a_probe_brings_a_token(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0)
    replica.silences = SILENCES_MAX
    looks: list[Look] = [200, 200, UpstreamBroken(), 200, 500, 503, 200, 200, 200]
    upstream, said = Health(looks), list[bool]()
    async with watched(replica, upstream, lambda each: said.append(each.healthy)):
        await upstream.all_seen.wait()
    paths = [url.removeprefix("POST http://replica").removeprefix("GET http://replica") for url in upstream.urls]
    assert paths[:8] == ["/health", *(["/health", "/v1/completions"] * 2), "/health", "/health", "/v1/completions"]
    assert said == [True, False, True]
    assert (replica.silences, replica.life) == (0, 0)


async def test_a_token_of_a_running_request_ends_the_silence(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0)
    upstream, said = Health([200, 200]), list[bool]()
    async with watched(replica, upstream, lambda each: said.append(each.healthy)):
        replica.healthy = False
        replica.silences = SILENCES_MAX
        replica.spoke()
        await upstream.all_seen.wait()
    assert said == [True, True]


async def test_a_probe_that_is_not_answered_is_given_up(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PROBE_S_MAX", 0.01)
    assert not await health.probe(replica, Health([None]))


async def test_a_replica_that_embeds_is_asked_to_embed() -> None:
    upstream = Health([200])
    assert await health.probe(Replica("r", "http://replica", sequences=1, generates=False), upstream)
    assert upstream.urls == ["POST http://replica/v1/embeddings"]


async def test_nobody_looks_once_the_block_is_left(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0)
    upstream = Health([200] * 3)
    async with watched(replica, upstream, lambda _: None):
        pass
    seen = len(upstream.urls)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(upstream.urls) == seen == 1
