"""
One exchange over a real Redis and a real log, cut at its k-th wait, for every k there is: by a shutdown, by its client.

Wherever it is cut, it is billed once or not at all, its limits are charged what is billed, and nothing stays held.
"""

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from engine.protocols.chat import CHAT
from policies.quota import Subject
from proxy.billing.record import CLIENT_CLOSED, OK, SHUTDOWN
from proxy.redis.client import RedisClient
from proxy.stages.admit import Admit
from proxy.stages.progress import Progress
from proxy.store import keys
from proxy.store.journal.journal import Journal
from proxy.store.ledger import read
from proxy.store.membership.incarnation import Incarnation
from proxy.store.outbox.outbox import Outbox
from proxy.store.redis_reservations import RedisReservations
from tests.unit.proxy.gateway import CHAT_BODY, STREAM_BODY, Gateway, gateway
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import Answer, replays

WAITS_MAX = 200
"""More than any of these exchanges has."""

Replicas = Callable[[], Mapping[str, list[Answer]]]


@types.coroutine
def _counted(work: Coroutine[Any, Any, None], waits: "Waits") -> Generator[Any, Any, None]:
    """Drive `work` and count its waits; `waits.cut` is called as the chosen one begins."""
    thrown: BaseException | None = None
    while True:
        try:
            waiting = work.send(None) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
        waits.seen += 1
        if waits.seen == waits.chosen:
            waits.cut()
        thrown = None
        try:
            yield waiting
        except BaseException as error:  # noqa: BLE001 (it is thrown on)
            thrown = error


class Waits:
    """How often a task has waited, and what happens at one of its waits."""

    def __init__(self, chosen: int, cut: Callable[[], object]) -> None:
        self.chosen = chosen
        self.cut = cut
        self.seen = 0


@asynccontextmanager
async def real(connection: RedisClient, folder: Path, replicas: Mapping[str, list[Answer]]) -> AsyncIterator[Gateway]:
    """Put a gateway with played replicas on a real Redis and a real disk."""
    played = gateway(folder, **replicas)  # type: ignore[arg-type]
    async with Incarnation(connection) as incarnation, Journal(folder / "journal", incarnation.id) as journal:
        store = RedisReservations(connection, incarnation)
        async with (
            _outbox(store, journal, played) as outbox,
            Progress(store, 3600) as progress,
        ):
            exchange = replace(
                played.exchange,
                incarnation=incarnation.id,
                admit=Admit(store, outbox, played.holds),
                outbox=outbox,
                progress=progress,
            )
            yield replace(played, exchange=exchange)
            assert (len(outbox), len(progress), journal.unsettled) == (0, 0, 0)


def _outbox(store: RedisReservations, journal: Journal, played: Gateway) -> Outbox:
    metrics = played.metrics
    return Outbox(store, journal, billed=metrics.billed, corrected=metrics.corrected, failed=metrics.settle_failed)


async def cut_at(gw: Gateway, chosen: int, how: str, body: dict[str, Any]) -> tuple[Waits, PlayedClient]:
    """Serve a client whose exchange is cut at the chosen wait."""
    client = gw.client(body)
    tasks: list[asyncio.Task[None]] = []
    waits = Waits(chosen, lambda: tasks[0].cancel() if how == SHUTDOWN else client.left.set())

    async def exchange() -> None:
        await _counted(gw.exchange(CHAT, client.downstream()), waits)

    tasks.append(asyncio.create_task(exchange()))
    async with asyncio.timeout(20):
        await asyncio.wait(tasks)
    assert tasks[0].cancelled() or tasks[0].exception() is None
    return waits, client


async def assert_sound(connection: RedisClient, gw: Gateway, client: PlayedClient) -> None:
    """Assert what holds after any end."""
    rows = [entry async for entry in read(connection, ["acme"], 0, 2**52)]
    assert len(rows) <= 1
    assert await connection.call("ZCARD", keys.open_index("acme")) == 0
    plan = gw.catalog.plan("acme", "pro")
    assert plan is not None
    subject = Subject(tenant="acme", user="ada", model="demo")
    store = RedisReservations(connection, Incarnation(connection))
    used = {each.limit.unit.value: each.used for each in await store.statuses(subject, plan.limits)}
    record = rows[0].record if rows else None
    billed = record.prompt_tokens + record.completion_tokens if record else 0
    assert used["concurrent"] == 0
    assert used["requests"] == len(rows)
    if record and not billed and record.wasted_tokens and record.outcome == CLIENT_CLOSED:
        assert used["tokens"] == record.wasted_tokens
    else:
        assert used["tokens"] == billed
    assert gw.metric("tollway_tokens_total") - gw.metric("tollway_tokens_total", kind="cached") == billed
    assert gw.metric("tollway_requests_total") == 1
    if client.complete and client.status == 200 and b"error" not in client.answer:
        assert record
        assert record.outcome == OK
    if any(part for part in client.messages if part.get("body")) and client.status == 200:
        assert record, "the client was shown something"
    replicas = [replica.snapshot() for pool in gw.pools.values() for replica in pool]
    assert {(replica.inflight_sequences, replica.inflight_tokens) for replica in replicas} == {(0, 0)}
    assert gw.upstream.open == 0


CASES: dict[str, tuple[dict[str, Any], Replicas]] = {
    "stream": (STREAM_BODY, lambda: {"a": [replays("122-chat-stream-continuous")]}),
    "whole": (CHAT_BODY, lambda: {"a": [replays("100-chat")]}),
    "retried": (
        STREAM_BODY,
        lambda: {"a": [replays("401-overload-stream")], "b": [replays("122-chat-stream-continuous")]},
    ),
    "refused": (STREAM_BODY, lambda: {"a": [replays("309-bad-logprobs-stream")]}),
    "crashed": (STREAM_BODY, lambda: {"a": [replays("412-crash-stream")], "b": []}),
}


@pytest.mark.parametrize("how", [SHUTDOWN, CLIENT_CLOSED])
@pytest.mark.parametrize("case", CASES)
async def test_an_exchange_cut_at_any_wait_is_billed_once_and_holds_nothing(
    connection: RedisClient, tmp_path: Path, case: str, how: str
) -> None:
    body, replicas = CASES[case]
    for chosen in count(1):
        assert chosen < WAITS_MAX
        await connection.call("FLUSHALL")
        folder = tmp_path / str(chosen)
        folder.mkdir()
        async with real(connection, folder, replicas()) as gw:
            waits, client = await cut_at(gw, chosen, how, body)
            await assert_sound(connection, gw, client)
        if waits.seen < chosen:
            break
    assert chosen > 5
