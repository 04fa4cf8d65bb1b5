"""
How all workers take another config together: the steps of a reload (`proxy/compose/own_config.py`), each done by every
worker before the next is begun.

Rules:
- One worker that finds a fault, or does not answer, and nothing is changed in any.
- Behind that nothing is undone: a worker that does not take a step is killed, and begins again with the config.
- One that is born meanwhile takes the config before it counts as up.
- A replica that is wanted no longer is ended when no worker has anything on it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from engine.fleet.launch import Place
from proxy.api.admin import Shown
from proxy.compose.fleet import LaunchedFleet, Places, Urls
from proxy.observe.joined import JoinedExposition
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.faults import in_order
from proxy.workers.worker import Task, Worker

_LOOK_S = 1.0
"""Between two looks at whether replicas have left."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A config without a fault, and who says so."""

    settings: Settings
    places: Places
    tasks: Sequence[Task]
    by: Sequence[Worker]
    """Whoever was up."""


class TeamConfig:
    """
    The config of all workers.

    `settings` are those of the start. `tasks` makes each worker's task of a config and the places of its replicas; it
    raises Fatal where there are too few.
    """

    def __init__(
        self,
        team: Sequence[Worker],
        settings: Settings,
        launched: LaunchedFleet,
        tasks: Callable[[Settings, Urls], Sequence[Task]],
        *,
        counted: JoinedExposition,
    ) -> None:
        self._team = team
        self._settings = settings
        self._launched = launched
        self._tasks = tasks
        self._counted = counted
        self._checked: _Checked | None = None
        self._taking: Sequence[Worker] = ()
        """Who has to be told every step; whoever is born later knows the config."""
        self._leaving: set[Place] = set()

    async def check(self, settings: Settings) -> list[str]:
        """Have every worker check its share; raise ConfigError with all that they find, or Fatal."""
        places = self._launched.places(settings)
        tasks = self._tasks(settings, places.urls)
        by = [worker for worker in self._team if worker.up]
        answers = await asyncio.gather(*(worker.take("check", tasks[worker.place]) for worker in by))
        faults, rekeyed = set[ConfigFault](), set[str]()
        for worker, answer in zip(by, answers, strict=True):
            if answer is None:
                faults.add(ConfigFault("", f"worker {worker.place} does not answer"))
            else:
                faults.update(ConfigFault(*fault) for fault in answer["faults"])
                rekeyed.update(answer.get("rekeyed", ()))
        if faults:
            raise ConfigError(in_order(faults))
        self._checked = _Checked(settings, places, tasks, by)
        return sorted(rekeyed)

    async def bar(self) -> None:
        """Have every worker end what is taken back; from now on the config is that of all lives."""
        checked = self._next
        self._taking = [worker for worker in self._team if worker.up]
        for worker, task in zip(self._team, checked.tasks, strict=True):
            worker.give(task)
        self._launched.begin(checked.places.new)
        await self._every("check", [worker for worker in self._taking if worker not in checked.by])
        await self._every("bar", self._taking)

    async def swap(self) -> None:
        """Have every worker put the rest in force."""
        settings, self._checked = self._next.settings, None
        await self._every("swap", self._taking)
        self._leaving = (self._leaving | _places(self._settings)) - _places(settings)
        self._settings = settings
        self._counted.user_series_max = settings.limits.user_series_max

    async def see_off(self, shown: Callable[[], Awaitable[Sequence[Shown]]]) -> None:
        """End replicas that are wanted no longer, and what is counted of them, as soon as no worker shows them."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._leaving:
                there = {(each["model"], each["name"]) for each in await shown()}
                for place in self._leaving - there:
                    self._leaving.discard(place)
                    self._counted.forget(place)
                    self._launched.left(place)

    @property
    def _next(self) -> _Checked:
        assert self._checked is not None, "a config is checked before it is taken"
        return self._checked

    async def _every(self, step: str, workers: Sequence[Worker]) -> None:
        await asyncio.gather(*(self._one(step, worker) for worker in workers))

    async def _one(self, step: str, worker: Worker) -> None:
        answer = await worker.take(step, worker.task)
        if answer is None or answer["faults"]:
            worker.kill("it does not take the config that holds")


def _places(settings: Settings) -> set[Place]:
    return {(model.name, replica.name) for model in settings.models for replica in model.replicas}
