"""How workers take a config together: one that finds a fault, one that hangs, one that is born meanwhile."""

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

import pytest

from engine.fleet.launch import Place
from proxy.compose.fleet import LaunchedFleet, Places, Urls
from proxy.fatal import Fatal
from proxy.observe.joined import JoinedExposition
from proxy.settings import ConfigError, Settings
from proxy.settings.loading import parse
from proxy.workers import team_config
from proxy.workers.channel import Message
from proxy.workers.team_config import TeamConfig
from proxy.workers.worker import Task, Worker
from tests.issuer import wait_until

DEMO = files("proxy.settings").joinpath("demo.toml").read_text()
BEFORE = parse(DEMO, {})
AFTER = parse(DEMO.replace('name = "demo-1"', 'name = "demo-2"'), {})
WHOLE: Message = {"faults": [], "rekeyed": []}


class PlayedWorker:
    """A worker that does each step as it is told to, and notes them in `story`."""

    def __init__(self, place: int, story: list[tuple[str, int]], *, up: bool = True) -> None:
        self.place = place
        self.up = up
        self.task = Task(BEFORE, "info")
        self.answers: dict[str, Message | None] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.killed = ""
        self._story = story

    def give(self, task: Task) -> None:
        self.task = task

    async def take(self, step: str, task: Task) -> Message | None:
        self._story.append((step, self.place))
        assert task.log_level == "info"
        if step in self.held:
            await self.held[step].wait()
        return self.answers.get(step, WHOLE)

    def kill(self, why: str) -> None:
        self.killed = why


class NoLaunches:
    """Launches nothing, and remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Place] = []

    def places(self, settings: Settings) -> Places:
        return Places({each.name: f"http://{each.name}" for model in settings.models for each in model.replicas}, ())

    def begin(self, new: Any) -> None:
        self.begun.append(new)

    def left(self, place: Place) -> None:
        self.ended.append(place)


class Team:
    """A team of played workers."""

    def __init__(self, *up: bool) -> None:
        self.story: list[tuple[str, int]] = []
        self.workers = [PlayedWorker(place, self.story, up=each) for place, each in enumerate(up)]
        self.launched = NoLaunches()
        self.counted = JoinedExposition(10)
        self.config = TeamConfig(
            cast("Sequence[Worker]", self.workers),
            BEFORE,
            cast("LaunchedFleet", self.launched),
            self._tasks,
            counted=self.counted,
        )

    def _tasks(self, settings: Settings, urls: Urls) -> list[Task]:
        assert set(urls) == {replica.name for replica in settings.models[0].replicas}
        return [Task(settings, "info") for _ in self.workers]

    async def take(self, settings: Settings = AFTER) -> list[str]:
        rekeyed = await self.config.check(settings)
        await self.config.bar()
        await self.config.swap()
        return rekeyed

    def steps(self) -> list[str]:
        """Return the steps in which the story went on, each once for all workers together."""
        return [step for at, (step, _) in enumerate(self.story) if at == 0 or self.story[at - 1][0] != step]


async def test_each_step_is_done_by_all_before_the_next_is_begun() -> None:
    team = Team(True, True, True)
    team.workers[1].held["bar"] = asyncio.Event()
    taking = asyncio.create_task(team.take())
    await wait_until(lambda: ("bar", 2) in team.story)
    assert not taking.done()
    assert ("swap", 0) not in team.story
    team.workers[1].held["bar"].set()
    await taking
    assert team.steps() == ["check", "bar", "swap"]
    assert len(team.story) == 9
    assert all(worker.task.settings is AFTER for worker in team.workers)
    assert team.launched.begun == [()]


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        ({"faults": [["a.b", "is missing"], ["", "odd"]]}, [("", "odd"), ("a.b", "is missing")]),
        (None, [("", "worker 1 does not answer")]),
    ],
)
async def test_one_that_cannot_take_it_and_none_does(answer: Message | None, faults: list[tuple[str, str]]) -> None:
    team = Team(True, True)
    team.workers[1].answers["check"] = answer
    with pytest.raises(ConfigError) as caught:
        await team.take()
    assert [tuple(fault) for fault in caught.value.faults] == faults
    assert team.steps() == ["check"]
    assert all(worker.task.settings is BEFORE for worker in team.workers)
    assert not any(worker.killed for worker in team.workers)
    assert team.launched.begun == []


async def test_a_fault_that_all_find_is_told_once_and_so_is_a_key() -> None:
    team = Team(True, True)
    for worker in team.workers:
        worker.answers["check"] = {"faults": [["a", "no"]]}
    with pytest.raises(ConfigError) as caught:
        await team.take()
    assert len(caught.value.faults) == 1
    for worker in team.workers:
        worker.answers["check"] = {"faults": [], "rekeyed": ["dev"]}
    assert await team.take() == ["dev"]


async def test_too_few_places_for_so_many_workers_are_a_fault_too() -> None:
    team = Team(True)

    def refuse(settings: Settings, urls: Urls) -> list[Task]:
        raise Fatal("too few")

    team.config._tasks = refuse
    with pytest.raises(Fatal, match="too few"):
        await team.take()
    assert team.story == []


@pytest.mark.parametrize("step", ["bar", "swap"])
@pytest.mark.parametrize("answer", [None, {"faults": [["", "no"]]}])
async def test_one_that_fails_behind_the_check_is_killed_and_the_others_go_on(
    step: str, answer: Message | None
) -> None:
    team = Team(True, True)
    team.workers[0].answers[step] = answer
    await team.take()
    assert [bool(worker.killed) for worker in team.workers] == [True, False]
    assert ("swap", 1) in team.story
    assert team.workers[0].task.settings is AFTER, "its next life has it"


async def test_one_that_is_being_born_is_not_waited_for_and_given_the_task() -> None:
    team = Team(True, False)
    await team.take()
    assert {place for _, place in team.story} == {0}
    assert team.workers[1].task.settings is AFTER


async def test_one_that_was_born_between_the_check_and_the_rest_is_told_all_of_it() -> None:
    team = Team(True, False)
    await team.config.check(AFTER)
    team.workers[1].up = True
    await team.config.bar()
    await team.config.swap()
    assert [step for step, place in team.story if place == 1] == ["check", "bar", "swap"]


async def test_one_that_is_born_after_that_knows_the_config_already() -> None:
    team = Team(True, False)
    await team.config.check(AFTER)
    await team.config.bar()
    team.workers[1].up = True
    await team.config.swap()
    assert {place for _, place in team.story} == {0}


async def test_a_replica_is_ended_when_no_worker_shows_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_config, "_LOOK_S", 0.001)
    team = Team(True, True)
    shown = [{"model": "demo", "name": name} for name in ("demo-0", "demo-1")]
    looks = 0

    async def replicas() -> list[dict[str, str]]:
        nonlocal looks
        looks += 1
        return shown

    seeing_off = asyncio.create_task(team.config.see_off(replicas))
    await asyncio.sleep(0.02)
    assert looks == 0, "nobody leaves"
    await team.take()
    await wait_until(lambda: looks > 3)
    assert team.launched.ended == []
    shown.pop()
    await wait_until(lambda: team.launched.ended == [("demo", "demo-1")])
    seeing_off.cancel()


async def test_one_that_is_wanted_again_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_config, "_LOOK_S", 0.001)
    team = Team(True)

    async def replicas() -> list[dict[str, str]]:
        return []

    await team.take(AFTER)
    await team.take(BEFORE)
    seeing_off = asyncio.create_task(team.config.see_off(replicas))
    await wait_until(lambda: team.launched.ended == [("demo", "demo-2")])
    seeing_off.cancel()


async def test_the_cap_on_users_is_that_of_the_config() -> None:
    team = Team(True)
    await team.take(parse(f"{DEMO}\n[limits]\nuser_series_max = 3", {}))
    assert team.counted.user_series_max == 3
