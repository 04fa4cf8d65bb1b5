"""
The process before the workers: it owns what there is one of, and keeps them alive. It serves operators, and no client.

The order of a stop: the workers drain side by side, then the admin listener closes, then the replicas and the Redis of
ours end. Killed, it takes everything with it: workers are told to stop as if by SIGTERM, and drain.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from engine.runtime.background import Background
from engine.runtime.keeper import kept
from engine.runtime.process import ChildFailed
from proxy.app import Addresses, operated
from proxy.compose.fleet import Urls, launched, placed
from proxy.compose.reload import ConfigSource, Reload
from proxy.compose.storage import embedded
from proxy.fatal import Fatal
from proxy.http.listeners import bound, reserved, url_of
from proxy.observe.joined import JoinedExposition
from proxy.observe.metrics import Metrics
from proxy.settings import Settings
from proxy.workers.share import shared_out
from proxy.workers.state import JoinedState
from proxy.workers.team_config import TeamConfig
from proxy.workers.worker import Task, Worker


@asynccontextmanager
async def running(
    source: ConfigSource, workers: int, log_level: str, hurried: asyncio.Event
) -> AsyncIterator[Addresses]:
    """
    Run the whole gateway as several workers for the block; their drain waits no longer than until `hurried`.

    Raises: Fatal, also what a worker found.
    """
    settings = source.settings
    shared_out(settings, workers)
    listen, admin = settings.listen, settings.admin
    with reserved(listen.host, listen.port) as public, bound(admin.host, admin.port) as private:
        async with embedded(settings) as stored, launched(stored) as ours:

            def tasks(wanted: Settings, urls: Urls) -> list[Task]:
                """Return each worker's share of a config, whose Redis and replicas run here or elsewhere."""
                here = wanted.model_copy(update={"redis": stored.redis})
                whole = _listening(placed(here, urls), public.getsockname()[1])
                return [Task(share, log_level) for share in shared_out(whole, workers)]

            urls = ours.places(stored).urls
            metrics, counted = Metrics(user_series_max=0), JoinedExposition(settings.limits.user_series_max)
            team = [
                Worker(place, task, metrics=metrics, counted=counted)
                for place, task in enumerate(tasks(settings, urls))
            ]
            state = JoinedState(team, metrics, counted)
            config = TeamConfig(team, settings, ours, tasks, counted=counted)
            reload = Reload(source, config, metrics)
            async with (
                operated(state, reload, private, settings=settings, metrics=metrics),
                _serving(team, hurried),
                Background(reload.whenever_asked, "tollway-reload"),
                Background(partial(config.see_off, state.replicas), "tollway-see-off"),
            ):
                yield Addresses(url_of(public), url_of(private), urls).found(await state.replicas())


@asynccontextmanager
async def _serving(team: Sequence[Worker], hurried: asyncio.Event) -> AsyncIterator[None]:
    async def hurry() -> None:
        await hurried.wait()
        for worker in team:
            if worker.life is not None:
                await worker.life.tell({"hurry": True})

    try:
        async with Background(hurry, "tollway-hurry"), kept([worker.keeper for worker in team]):
            yield
    except ChildFailed as failed:
        raise Fatal(str(failed)) from failed


def _listening(settings: Settings, port: int) -> Settings:
    """Return a config that names the port that was taken, where any was asked for."""
    return settings.model_copy(update={"listen": settings.listen.model_copy(update={"port": port})})
