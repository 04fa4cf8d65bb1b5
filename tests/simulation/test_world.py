"""
Many worlds, each from a seed. One that fails tells its seed and its story; run it again with

    pytest tests/simulation --seed N
"""

from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import pytest

from proxy.redis.script import Script
from tests.redis_server import SERVERS
from tests.simulation.invariants import Invariants
from tests.simulation.shared_redis import Rewrite, unchanged
from tests.simulation.world import World

SEEDS = range(46)
STEPS_MIN = 100_000
STORY_LINES = 200

one_redis = pytest.mark.parametrize("redis_server", SERVERS[:1], indirect=True, ids=["redis"])
ran: Counter[int] = Counter()
"""Steps by seed."""


def run(seed: int, url: str, folder: Path, rewrite: Rewrite = unchanged) -> World:
    """Live through the world of a seed."""
    world = World(seed, url, Path(mkdtemp(dir=folder)), check=Invariants(), rewrite=rewrite)
    try:
        world.run()
    except BaseException:
        print(f"seed {seed} failed; the last of its story:", *world.story[-STORY_LINES:], sep="\n")  # noqa: T201
        raise
    ran[seed] = sum(world.steps.values())
    return world


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the seed that was asked for, or all of them."""
    if "seed" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--seed", default=None)
        metafunc.parametrize("seed", SEEDS if asked is None else [asked])


@one_redis
def test_a_world(seed: int, redis_server: str, tmp_path: Path) -> None:
    run(seed, redis_server, tmp_path)


def test_the_worlds_are_long_enough() -> None:
    if ran.keys() < set(SEEDS):
        pytest.skip("not all of them ran")
    assert sum(ran.values()) >= STEPS_MIN


@one_redis
def test_a_seed_always_gives_the_same_world(redis_server: str, tmp_path: Path) -> None:
    first, second = (run(3, redis_server, tmp_path) for _ in range(2))
    assert first.story == second.story
    assert first.steps == second.steps


def settles_twice(script: Script, text: str) -> str:
    """Forget that a reservation has ended."""
    return text.replace("state and state ~= 'PENDING'", "false") if script.name == "settle" else text


def refunds_nothing(script: Script, text: str) -> str:
    """Release without giving anything back."""
    return text.replace("-tonumber(head[2]), -1", "0, 0") if script.name == "release" else text


def forgets_progress(script: Script, text: str) -> str:
    """Note no progress."""
    return text.replace("if state == 'PENDING'", "if false") if script.name == "progress" else text


@one_redis
@pytest.mark.parametrize(("broken", "first"), [(settles_twice, 0), (refunds_nothing, 0), (forgets_progress, 11)])
def test_a_wrong_store_is_found_out(broken: Rewrite, first: int, redis_server: str, tmp_path: Path) -> None:
    for seed in range(first, first + 10):
        try:
            run(seed, redis_server, tmp_path, broken)
        except AssertionError:
            return
    raise AssertionError("no world noticed")
