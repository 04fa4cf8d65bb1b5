"""What operators see of several workers: one exposition, one list of replicas."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from proxy.api.admin import Shown
from proxy.observe.joined import JoinedExposition
from proxy.observe.metrics import Metrics
from proxy.workers.channel import Message
from proxy.workers.worker import Worker

ANSWER_S_MAX = 2.0
"""For a worker to answer a scrape; of one that does not, what it said last is shown."""
_SUMMED = ("free_sequences", "inflight_sequences", "inflight_tokens")


class JoinedState:
    """
    The state of all workers together.

    `metrics` are the supervisor's own, and `counted` keeps what workers that are gone had counted.
    """

    def __init__(self, workers: Sequence[Worker], metrics: Metrics, counted: JoinedExposition) -> None:
        self._workers = workers
        self._metrics = metrics
        self._counted = counted

    async def exposition(self) -> tuple[bytes, str]:
        """Ask every worker, and return the sum."""
        reports = await self._reports()
        own, content_type = self._metrics.render()
        joined = self._counted.over([own.decode(), *(report["exposition"] for report in reports)])
        return joined.encode(), content_type

    async def replicas(self) -> Sequence[Shown]:
        """Ask every worker, and return each replica once."""
        return joined_replicas(report["replicas"] for report in await self._reports())

    async def _reports(self) -> list[Message]:
        lives = [worker.life for worker in self._workers if worker.life is not None]
        await asyncio.gather(*(life.refresh(ANSWER_S_MAX) for life in lives))
        # One that ended meanwhile is among the counted.
        return [
            worker.life.report for worker in self._workers if worker.life is not None and worker.life.report is not None
        ]


def joined_replicas(parts: Iterable[Iterable[Shown]]) -> list[Shown]:
    """Return each replica once: healthy when every worker finds it so, and what they hold there together."""
    whole: dict[tuple[str, ...], dict[str, Any]] = {}
    for part in parts:
        for shown in part:
            # One that leaves may have the name of another by now.
            key = shown["model"], shown["name"], shown["url"], shown["leaving"]
            whole[key] = _joined(whole[key], shown) if key in whole else dict(shown)
    return list(whole.values())


def _joined(known: Shown, shown: Shown) -> dict[str, Any]:
    ends = [end for end in (known["earliest_end_us"], shown["earliest_end_us"]) if end is not None]
    return {
        **known,
        "healthy": known["healthy"] and shown["healthy"],
        "stalled": known["stalled"] or shown["stalled"],
        "cause": known["cause"] or shown["cause"],
        **{name: known[name] + shown[name] for name in _SUMMED},
        "earliest_end_us": min(ends, default=None),
    }
