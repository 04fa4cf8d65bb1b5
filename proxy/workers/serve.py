"""
A worker's process: `python -P -m proxy.workers.serve DESCRIPTOR`, where the descriptor is its end of the line.

It serves on the port that its supervisor keeps and answers what that asks, until SIGTERM, which also comes when the
supervisor is killed (`engine/runtime/tether.py`). It logs to the standard error that it shares with its siblings.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import uvloop

from engine.fleet.pool import Pool
from engine.runtime.background import Background
from engine.runtime.lifetime import until_stopped
from proxy.api.admin import shown
from proxy.app import gateway
from proxy.compose.own_config import OwnConfig
from proxy.fatal import Fatal
from proxy.http.listeners import beside
from proxy.observe import logs
from proxy.observe.metrics import Metrics
from proxy.settings import ConfigError, Settings
from proxy.workers.channel import Channel, Message


async def serve(end: socket.socket) -> int:
    """Take the task from the line and do it; return the exit status."""
    async with Channel.over(end) as line:
        task = await line.receive()
        if task is None:
            return 1
        settings = Settings.model_validate_json(task["settings"])
        logs.configure(task["log_level"])

        async def ready(incarnation: str) -> None:
            await line.send({"ready": incarnation})

        try:
            await until_stopped(partial(_running, settings, line), ready)
        except Fatal as fatal:
            await line.send({"fatal": str(fatal)})
            return 1
        return 0


@asynccontextmanager
async def _running(settings: Settings, line: Channel, hurried: asyncio.Event) -> AsyncIterator[str]:
    metrics = Metrics(user_series_max=settings.limits.user_series_max)
    try:
        with beside(settings.listen.host, settings.listen.port) as listening:
            async with (
                gateway(settings, metrics) as made,
                Background(partial(_answer, line, metrics, made.config, hurried), "tollway-line"),
                made.served(listening, settings, hurried),
            ):
                yield made.incarnation
    finally:
        # Nobody asks any more; what was settled while it ended counts too.
        await line.send(await _report(metrics, {}))


async def _answer(line: Channel, metrics: Metrics, config: OwnConfig, hurried: asyncio.Event) -> None:
    while (message := await line.receive()) is not None:
        if "hurry" in message:
            hurried.set()
        elif "take" in message:
            await line.send({"answer": message["ask"], **await _take(config, message)})
        else:
            await line.send({"answer": message["ask"], **await _report(metrics, config.fleet.pools)})


async def _take(config: OwnConfig, message: Message) -> Message:
    """Do a step of a reload; return what is wrong."""
    rekeyed: list[str] = []
    try:
        match message["take"]:
            case "check":
                settings = await asyncio.to_thread(Settings.model_validate_json, message["settings"])
                rekeyed = await config.check(settings)
            case "bar":
                await config.bar()
            case "swap":
                await config.swap()
    except ConfigError as error:
        return {"faults": [[*fault] for fault in error.faults]}
    except Fatal as error:
        return {"faults": [["", str(error)]]}
    return {"faults": [], "rekeyed": rekeyed}


async def _report(metrics: Metrics, pools: Mapping[str, Pool]) -> Message:
    text, cpu_s = await asyncio.to_thread(_rendered, metrics)
    return {"exposition": text, "cpu_s": cpu_s, "replicas": shown(pools)}


def _rendered(metrics: Metrics) -> tuple[str, float]:
    began = time.thread_time()
    text, _ = metrics.render()
    return text.decode(), time.thread_time() - began


def main() -> None:
    """Be a worker."""
    end = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(end.fileno(), False)
    sys.exit(uvloop.run(serve(end)))


if __name__ == "__main__":
    main()
