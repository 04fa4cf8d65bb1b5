"""What a replica's own counts say of its engine: that it generates, that it has stalled, or nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.faults import UpstreamBroken, UpstreamFault
from engine.fleet import generation
from engine.fleet.generation import LOOK_S, STILL_S_MAX, Counts, TokenWatch, counts_of
from engine.fleet.replica import Replica
from engine.sim import metrics
from engine.sim.config import SimConfig
from engine.sim.engine import Engine
from engine.wire.client import UpstreamResponse
from engine.wire.connection import Take

Said = tuple[float, float] | int | UpstreamFault | None
"""Tokens generated and requests running, or a status, a fault, an exposition without counts."""


def exposition(generated: float, running: float) -> bytes:
    """Return what vLLM writes, with the metrics around that are not meant."""
    labels = '{engine="0",model_name="m"}'
    return (
        f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {running}\n"
        f"vllm:num_requests_running_by_reason{labels} 77.0\n"
        f"vllm:prompt_tokens_total{labels} 1e+06\n"
        f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{labels} {generated}\n"
        f"vllm:generation_tokens_created{labels} 1.7e+09\n"
    ).encode()


class Metrics:
    """An `engine.wire.client.Upstream` whose replica says something else at each look."""

    def __init__(self, said: Iterable[Said]) -> None:
        self._said = iter(said)
        self.urls: list[str] = []

    @asynccontextmanager
    async def request(self, method: str, url: str, **_: Any) -> AsyncIterator[UpstreamResponse]:
        self.urls.append(f"{method} {url}")
        said = next(self._said)
        if isinstance(said, UpstreamFault):
            raise said
        yield _Answer(said)


class _Answer:
    def __init__(self, said: tuple[float, float] | int | None) -> None:
        self.status = said if isinstance(said, int) else 200
        self._body = exposition(*said) if isinstance(said, tuple) else b"up 1\n"

    async def pour(self, take: Take) -> None:
        take(self._body)

    async def read(self, bytes_max: int) -> bytes:
        return self._body


@pytest.fixture
def replica() -> Replica:
    return Replica("r", "http://replica", sequences=4, healthy=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time that a look takes it to be."""
    now = [1_000.0]
    monkeypatch.setattr(generation, "_now", lambda: now[0])
    return now


async def looked(replica: Replica, said: list[Said], clock: list[float]) -> list[bool]:
    """Look once for each, in the time that is between looks; return what each look found changed."""
    upstream = Metrics(said)
    watch, changes = TokenWatch(replica, upstream), []
    for _ in said:
        changes.append(await watch.look())
        clock[0] += LOOK_S
    return changes


def test_the_counts_of_all_engines_are_one() -> None:
    two = exposition(3, 1) + exposition(4.5e3, 2).replace(b'engine="0"', b'engine="1"')
    assert counts_of(two) == Counts(4_503, 3)


@pytest.mark.parametrize("text", [b"", b"up 1\n", b"vllm:generation_tokens_total many\n", b"\xff\x00"])
def test_an_exposition_without_counts_says_nothing(text: bytes) -> None:
    assert counts_of(text) is None


def test_the_simulated_engine_tells_them_as_vllm_does() -> None:
    async def told() -> bytes:
        return metrics.render(SimConfig(), Engine(SimConfig()))

    assert counts_of(asyncio.run(told())) == Counts(0, 0)


async def test_an_engine_whose_count_moves_generates(replica: Replica, clock: list[float]) -> None:
    with replica.lease(1, 10, expected_end_us=1):
        assert await looked(replica, [(5, 1), (5, 1)], clock) == [False, False]
        assert replica.generating_at < 0, "nobody saw it move"
        await looked(replica, [(5, 1), (6, 1)], clock)
    assert replica.generating_at == clock[0] - LOOK_S


@pytest.mark.parametrize(
    ("said", "changes"),
    [
        ([(5, 1), (5, 1), (5, 1)], [False, False, True]),
        ([(5, 1), (5, 1), (5, 1), (5, 1), (6, 1)], [False, False, True, False, True]),
        ([(5, 1), (6, 1), (7, 1), (7, 1)], [False] * 4),
        ([(5, 0)] * 6, [False] * 6),
        ([(5, 0), (5, 0), (5, 0), (5, 1)], [False] * 4),
        ([(5, 1), (5, 1), (5, 1), (5, 0)], [False, False, True, True]),
        ([(5, 1), (5, 1), UpstreamBroken(), (5, 1), (5, 1)], [False] * 5),
        ([404, 404, 404, 404], [False] * 4),
        ([None, None, None, None], [False] * 4),
        ([(9, 1), (9, 1), (2, 1), (2, 1)], [False] * 4),
    ],
)
async def test_it_has_stalled_when_its_count_stands_still_while_requests_run(
    replica: Replica, clock: list[float], said: list[Said], changes: list[bool]
) -> None:
    assert 2 * LOOK_S >= STILL_S_MAX > LOOK_S
    with replica.lease(1, 10, expected_end_us=1):
        assert await looked(replica, said, clock) == changes


async def test_a_stall_says_for_how_long_and_under_what(replica: Replica, clock: list[float]) -> None:
    with replica.lease(1, 10, expected_end_us=1):
        await looked(replica, [(5, 3)] * 4, clock)
    assert replica.stall == "no token for 15 s while 3 requests run"


async def test_it_is_asked_every_few_seconds_while_something_runs_and_never_else(
    replica: Replica, clock: list[float]
) -> None:
    upstream = Metrics([(5, 1), (6, 1), (7, 1)])
    watch = TokenWatch(replica, upstream)
    await watch.look()
    assert upstream.urls == []
    with replica.lease(1, 10, expected_end_us=1):
        await watch.look()
        await watch.look()
        assert upstream.urls == ["GET http://replica/metrics"]
        clock[0] += LOOK_S
        await watch.look()
        assert len(upstream.urls) == 2
    clock[0] += LOOK_S
    await watch.look()
    assert len(upstream.urls) == 2


async def test_what_it_counted_while_nobody_looked_proves_nothing(replica: Replica, clock: list[float]) -> None:
    upstream = Metrics([(5, 1), (900, 1)])
    watch = TokenWatch(replica, upstream)
    with replica.lease(1, 10, expected_end_us=1):
        await watch.look()
    clock[0] += 3_600
    await watch.look()
    with replica.lease(1, 10, expected_end_us=1):
        await watch.look()
    assert replica.generating_at < 0
    assert replica.stall is None


async def test_a_stall_is_looked_at_until_it_is_over(replica: Replica, clock: list[float]) -> None:
    upstream = Metrics([(5, 1), (5, 1), (5, 1), (5, 0)])
    watch = TokenWatch(replica, upstream)
    with replica.lease(1, 10, expected_end_us=1):
        for _ in range(3):
            await watch.look()
            clock[0] += LOOK_S
    causes = [replica.cause]
    assert await watch.look()
    assert [*causes, replica.cause] == ["no token for 10 s while 1 requests run", None]
    assert len(upstream.urls) == 4


async def test_one_that_embeds_is_not_asked(replica: Replica, clock: list[float]) -> None:
    replica.generates = False
    with replica.lease(1, 10, expected_end_us=1):
        assert await looked(replica, [(5, 1)], clock) == [False]


async def test_one_that_does_not_answer_in_time_says_nothing(
    replica: Replica, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_ANSWER_S_MAX", 0.01)

    class Silent(Metrics):
        @asynccontextmanager
        async def request(self, method: str, url: str, **_: Any) -> AsyncIterator[UpstreamResponse]:
            await asyncio.Event().wait()
            yield _Answer(200)

    with replica.lease(1, 10, expected_end_us=1):
        assert not await TokenWatch(replica, Silent([])).look()
    assert replica.stall is None
