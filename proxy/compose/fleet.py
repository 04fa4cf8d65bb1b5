"""The fleet as the config says it: replicas launched here where it says so, and a pool for each model."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from engine.fleet import health
from engine.fleet.abort import DEV_MODE_ABORT
from engine.fleet.command import EngineMissing, LaunchSpec
from engine.fleet.launch import launch
from engine.fleet.pool import Pool
from engine.fleet.replica import Replica
from engine.runtime.process import ChildFailed
from engine.wire.client import Upstream
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.settings import Settings
from proxy.settings.sections import EndpointName, ModelSection
from proxy.settings.sections import ReplicaSection as ReplicaSection

_log = logging.getLogger(__name__)

Urls = Mapping[str, str]
"""Where each replica is, by its name."""


@asynccontextmanager
async def launched(settings: Settings) -> AsyncIterator[Urls]:
    """Run the replicas that the config says to launch for the block; yield where every replica is."""
    elsewhere = {replica.name: replica.url for model in settings.models for replica in model.replicas if replica.url}
    specs = _specs(settings)
    if not specs:
        yield elsewhere
        return
    try:
        async with launch(specs, logs=settings.redis.data_dir / "logs", report=_report) as replicas:
            yield elsewhere | {replica.name: replica.url for replica in replicas}
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
    settings: Settings, urls: Urls, upstream: Upstream, metrics: Metrics
) -> AsyncIterator[dict[str, Pool]]:
    """Watch the health of every replica for the block; yield each model's pool by the model's name."""
    pools = {
        model.name: Pool(
            model.name,
            [_replica(model, replica, urls[replica.name]) for replica in model.replicas],
        )
        for model in settings.models
    }
    model_of = {id(replica): pool.model for pool in pools.values() for replica in pool}

    def changed(replica: Replica) -> None:
        metrics.replica_up(model_of[id(replica)], replica.name, up=replica.healthy)
        if replica.healthy:
            _log.info("replica_up", extra={"replica": replica.name})
        else:
            _log.warning("replica_down", extra={"replica": replica.name})

    async with health.watched([replica for pool in pools.values() for replica in pool], upstream, changed):
        yield pools


def _replica(model: ModelSection, replica: ReplicaSection, url: str) -> Replica:
    return Replica(
        replica.name,
        url,
        replica.sequences,
        replica.group,
        model=model.name,
        generates=set(model.endpoints) != {EndpointName.EMBEDDINGS},
        abort_path=_abort_path(model, replica),
    )


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


def _report(replica: str, became: str) -> None:
    _log.info("replica_process", extra={"replica": replica, "reason": became})
