"""The fleet as the config says it: replicas launched here where it says so, and a pool for each model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.fleet.abort import DEV_MODE_ABORT
from engine.fleet.command import EngineMissing, LaunchSpec
from engine.fleet.fleet import Fleet, Placement
from engine.fleet.launch import Launches, Place, Prepared, launch
from engine.fleet.replica import Replica
from engine.protocols.registry import PROTOCOLS
from engine.runtime.process import ChildFailed
from engine.wire.client import Upstream
from engine.wire.credentials import Credentials
from proxy.compose.credentials import credentials
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.sections import ModelSection
from proxy.settings.sections import ReplicaSection as ReplicaSection

_log = logging.getLogger(__name__)

Urls = Mapping[str, str]
"""Where each replica is, by its name."""


class Places(NamedTuple):
    """Where the replicas of a config are, and which of them have still to be begun here."""

    urls: Urls
    new: Prepared


class LaunchedFleet:
    """The replicas that this process launches, as its config says it: those of the next one come, others go."""

    def __init__(self, launches: Launches) -> None:
        self._launches = launches
        self._ending: set[asyncio.Task[None]] = set()

    def places(self, settings: Settings) -> Places:
        """
        Return where the replicas of a config are; those that it launches and nobody did yet get an address.

        Raises: ConfigError, where there is no engine to launch.
        """
        try:
            new = self._launches.prepare([spec for spec in _specs(settings) if _place(spec) not in self._launches])
        except EngineMissing as error:
            raise ConfigError([ConfigFault("models", str(error))]) from error
        elsewhere = {each.name: each.url for model in settings.models for each in model.replicas if each.url}
        here = [*self._launches, *(each.launched for each in new)]
        return Places(elsewhere | {replica.name: replica.url for replica in here}, new)

    def begin(self, new: Prepared) -> None:
        """Launch these too; nobody waits until they are ready."""
        self._launches.begin(new)

    def left(self, place: Place) -> None:
        """End a replica with which nothing is any more; one that runs elsewhere is nobody's of ours."""
        if place in self._launches:
            task = asyncio.create_task(self._launches.end(place), name=f"end of {place[1]}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def ended(self) -> None:
        """Wait until all are ended that are told to."""
        await asyncio.gather(*self._ending)


@asynccontextmanager
async def launched(settings: Settings) -> AsyncIterator[LaunchedFleet]:
    """
    Run the replicas that the config says to launch for the block.

    Raises: Fatal, where one of them does not get ready.
    """
    try:
        async with launch(_specs(settings), logs=settings.redis.data_dir / "logs", report=_report) as launches:
            here = LaunchedFleet(launches)
            try:
                yield here
            finally:
                await here.ended()
    except (EngineMissing, ChildFailed) as error:
        raise Fatal(str(error)) from error


def placed(settings: Settings, urls: Urls) -> Settings:
    """Return a config for who uses these replicas and launches none: each of them runs elsewhere, where it is."""
    models = [
        model.model_copy(
            update={
                "launch": None,
                "replicas": tuple(
                    replica.model_copy(update={"url": urls[replica.name], "abort_path": _abort_path(model, replica)})
                    for replica in model.replicas
                ),
            }
        )
        for model in settings.models
    ]
    return settings.model_copy(update={"models": tuple(models)})


@asynccontextmanager
async def pooled(
    settings: Settings,
    urls: Urls,
    upstream: Upstream,
    metrics: Metrics,
    *,
    left: Callable[[Place], None] = lambda place: None,
) -> AsyncIterator[Fleet]:
    """Look after the config's replicas, and those of later configs, for the block; `left` is told who is gone."""
    async with Fleet(upstream, _Observed(metrics, left)) as fleet:
        fleet.arrange(await fleet.look(placements(settings, urls)))
        yield fleet


class _Observed:
    """What becomes of replicas, told to metrics, the log and whoever launched them."""

    def __init__(self, metrics: Metrics, left: Callable[[Place], None]) -> None:
        self._metrics = metrics
        self._left = left

    def joined(self, replica: Replica, inflight: Callable[[], int]) -> None:
        """Show how many requests are with it."""
        self._metrics.inflight(replica.model, replica.name, inflight)

    def changed(self, replica: Replica) -> None:
        """Show and log whether it is up."""
        self._metrics.replica_up(replica.model, replica.name, up=replica.healthy)
        if replica.healthy:
            _log.info("replica_up", extra={"replica": replica.name})
        else:
            reason = replica.cause
            _log.warning("replica_down", extra={"replica": replica.name, "url": replica.url, "reason": reason})

    def stalled(self, replica: Replica) -> None:
        """Show and log whether its engine generates what it should."""
        self._metrics.replica_stalled(replica.model, replica.name, stalled=replica.stall is not None)
        if replica.stall is None:
            _log.info("replica_goes_on", extra={"replica": replica.name})
        else:
            reason = replica.stall
            _log.warning("replica_stalled", extra={"replica": replica.name, "url": replica.url, "reason": reason})

    def left(self, replica: Replica) -> None:
        """Show it no longer."""
        self._metrics.replica_left(replica.model, replica.name)
        _log.info("replica_left", extra={"replica": replica.name})
        self._left((replica.model, replica.name))


def placements(settings: Settings, urls: Urls) -> Sequence[Placement]:
    """Return what the config wants of each replica; raise `ConfigError` where files of it are of no use."""
    read = credentials(settings)
    return [
        _placement(model, replica, urls[replica.name], read[replica.name])
        for model in settings.models
        for replica in model.replicas
    ]


def _placement(model: ModelSection, replica: ReplicaSection, url: str, shown: Credentials) -> Placement:
    return Placement(
        model=model.name,
        name=replica.name,
        url=url,
        sequences=replica.sequences,
        group=replica.group,
        generates=any(PROTOCOLS[name].generates for name in model.endpoints),
        abort_path=_abort_path(model, replica),
        serves=_other_name(model, replica),
        credentials=shown,
    )


def _other_name(model: ModelSection, replica: ReplicaSection) -> str:
    serves = replica.upstream_model or model.upstream_model or model.name
    return serves if serves != model.name else ""


def _abort_path(model: ModelSection, replica: ReplicaSection) -> str:
    return replica.abort_path or (DEV_MODE_ABORT if model.launch else "")


def _specs(settings: Settings) -> list[LaunchSpec]:
    return [
        LaunchSpec(
            name=replica.name,
            engine=model.launch.engine,
            model=model.name,
            sequences=replica.sequences,
            context_tokens=model.context_tokens,
            port=urlsplit(replica.url).port if replica.url else None,
            weights=model.launch.weights,
            args=model.launch.args,
        )
        for model in settings.models
        if model.launch is not None
        for replica in model.replicas
    ]


def _place(spec: LaunchSpec) -> Place:
    return spec.model, spec.name


def _report(replica: str, became: str) -> None:
    _log.info("replica_process", extra={"replica": replica, "reason": became})
