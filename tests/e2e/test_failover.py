"""A gateway on Redis behind Sentinel, or on a cluster: a primary dies under load, and each answer is billed once."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.asks import CHAT, chat
from tests.e2e.gateway import Running, gateway
from tests.redis_fleets import Cluster, Watched, cluster, watched

TENANTS = ("acme", "globex")
CLIENTS = 8
ANSWERS = 60
RESENT_S_MAX = 30

Fleet = Callable[[Path], AbstractContextManager[Watched | Cluster]]


@pytest.mark.parametrize("fleet", [watched, cluster])
async def test_each_answer_is_billed_once_though_a_primary_dies(fleet: Fleet, tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="tw-") as folder,
        fleet(Path(folder)) as servers,
        gateway(tmp_path, TOLLWAY__REDIS__URL=servers.url, TOLLWAY__REDIS__TIMEOUT_S="0.5") as running,
    ):
        answered = Counter[str]()
        refused = Counter[int]()
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            clients = [
                group.create_task(_ask(running, TENANTS[number % 2], answered, refused)) for number in range(CLIENTS)
            ]
            await _more(answered)
            servers.primary.kill()
            while not refused[503]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await _more(answered)
            for client in clients:
                client.cancel()
        assert set(refused) == {503}
        # Who was cut is billed too, as is what the dead primary knew alone.
        await running.eventually("tollway_reservations_open", 0, within_s=RESENT_S_MAX)
        async with asyncio.timeout(RESENT_S_MAX):
            while not answered <= (rows := await _rows(running)):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        assert rows.total() <= answered.total() + CLIENTS
        assert set(rows.values()) == {1}
        assert sum(row["requests"] for row in running.usage("tenant")) == rows.total()


async def _ask(running: Running, tenant: str, answered: Counter[str], refused: Counter[int]) -> None:
    async with running.client(running.bearer(tenant, "ada", "open")) as client:
        while True:
            answer = await client.post(CHAT, json=chat(5))
            if answer.status_code == 200:
                answered[answer.headers["x-request-id"]] += 1
            else:
                refused[answer.status_code] += 1
                await asyncio.sleep(0.05)


async def _more(answered: Counter[str]) -> None:
    before = answered.total()
    while answered.total() < before + ANSWERS:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def _rows(running: Running) -> Counter[str]:
    return Counter(entry.record.request_id for entry in await running.ledger())
