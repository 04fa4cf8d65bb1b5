"""
Many worlds, each from a seed. One that fails tells its seed and its story; run it again with

    pytest tests/simulation --seed N

A few worlds see every kind of fault; the others are for wide runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
from _pytest.mark import ParameterSet

from proxy.redis.script import Script
from tests.redis_server import NEWEST
from tests.simulation.invariants import Invariants
from tests.simulation.scenario import What
from tests.simulation.shared_redis import Rewrite, unchanged
from tests.simulation.world import World

SEEDS = range(46)
EVERYDAY = SEEDS[:16]
STEPS_A_WORLD_MIN = 100_000 / len(SEEDS)
"""In the mean."""
STORY_LINES = 200

one_redis = pytest.mark.parametrize("redis_server", [NEWEST], indirect=True, ids=["redis"])


@dataclass(frozen=True)
class Lived:
    """What is remembered of a world that went well."""

    steps: int
    broke: frozenset[What]


lived: dict[int, Lived] = {}
"""By seed."""


def run(seed: int, url: str, folder: Path, rewrite: Rewrite = unchanged) -> World:
    """Live through the world of a seed."""
    world = World(seed, url, Path(mkdtemp(dir=folder)), check=Invariants(), rewrite=rewrite)
    try:
        world.run()
    except BaseException:
        print(f"seed {seed} failed; the last of its story:", *world.story[-STORY_LINES:], sep="\n")  # noqa: T201
        raise
    return world


def remembered(seed: int, url: str, folder: Path) -> Lived:
    """Live through the world of a seed, unless this process did."""
    if seed not in lived:
        world = run(seed, url, folder)
        lived[seed] = Lived(sum(world.steps.values()), frozenset(fault.what for fault in world.faults))
    return lived[seed]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the seed that was asked for, or all of them."""
    if "seed" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--seed", default=None)
        metafunc.parametrize("seed", [everyday(seed) for seed in SEEDS] if asked is None else [asked])


def everyday(seed: int) -> ParameterSet:
    """Return a seed as a parameter, for wide runs alone if it is one of many."""
    return pytest.param(seed, marks=() if seed in EVERYDAY else pytest.mark.wide)


@one_redis
def test_a_world(seed: int, redis_server: str, tmp_path: Path) -> None:
    remembered(seed, redis_server, tmp_path)


@one_redis
@pytest.mark.parametrize("seeds", [EVERYDAY, pytest.param(SEEDS, marks=pytest.mark.wide)], ids=["everyday", "all"])
def test_the_worlds_are_long_enough_and_see_every_fault(
    seeds: Sequence[int], redis_server: str, tmp_path: Path
) -> None:
    worlds = [remembered(seed, redis_server, tmp_path) for seed in seeds]
    assert sum(world.steps for world in worlds) >= STEPS_A_WORLD_MIN * len(worlds)
    assert {what for world in worlds for what in world.broke} == set(What)


@one_redis
def test_a_seed_always_gives_the_same_world(redis_server: str, tmp_path: Path) -> None:
    first, second = (run(3, redis_server, tmp_path) for _ in range(2))
    assert first.story == second.story
    assert first.steps == second.steps


def settles_twice(script: Script, text: str) -> str:
    """Forget that a reservation has ended."""
    return broken(text, "state and state ~= 'PENDING'", "false") if script.name == "settle" else text


def refunds_nothing(script: Script, text: str) -> str:
    """Release without giving anything back."""
    return broken(text, "-tonumber(head[2]), -1", "0, 0") if script.name == "release" else text


def forgets_progress(script: Script, text: str) -> str:
    """Note no progress."""
    return broken(text, "if state == 'PENDING'", "if false") if script.name == "progress" else text


def returns_windows_of_the_silent(script: Script, text: str) -> str:
    """Give everybody back what a gateway may use still that is only cut off."""
    return (
        broken(text, "now, 0, 0, kept - held", "now, kept - held, 0, kept - held") if script.name == "suspect" else text
    )


def broken(text: str, right: str, wrong: str) -> str:
    """Return a script that says something wrong; no AssertionError, for which a world would be believed to notice."""
    if right not in text:
        raise LookupError(f"no script says {right!r} any more")
    return text.replace(right, wrong)


@one_redis
@pytest.mark.parametrize(
    ("rewrite", "first"),
    [(settles_twice, 0), (refunds_nothing, 0), (forgets_progress, 11), (returns_windows_of_the_silent, 0)],
)
def test_a_wrong_store_is_found_out(rewrite: Rewrite, first: int, redis_server: str, tmp_path: Path) -> None:
    for seed in range(first, first + 10):
        try:
            run(seed, redis_server, tmp_path, rewrite)
        except AssertionError:
            return
    raise AssertionError("no world noticed")
