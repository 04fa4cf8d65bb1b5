"""`proxy.redis.cluster` with a real cluster: each call where its key is, slots that move, nodes that die."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import pytest
from redis.crc import key_slot

from proxy.redis.address import Node
from proxy.redis.client import RedisClient, UnsafeRedis
from proxy.redis.cluster import ASKED_AT_ONCE, place_of
from proxy.redis.cluster import Cluster as Topology
from proxy.redis.pipeline import Pipeline
from proxy.redis.socket import ErrorReply, ServerSilent, Socket, SocketLost
from proxy.store.keys import late
from proxy.store.scripts import CLAIM
from tests.redis_fleets import Cluster, cluster, move_slot, serving
from tests.redis_server import EACH_SERVER, NEWEST

DEADLINE_S = 5.0


@pytest.fixture(scope="module", params=EACH_SERVER)
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Run a cluster for the tests that leave it whole."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, cluster(Path(folder), request.param) as running:
        yield running


@pytest.fixture
async def pipeline(nodes: Cluster) -> AsyncIterator[Pipeline]:
    async with Pipeline(nodes.url, deadline_s=DEADLINE_S) as opened:
        yield opened


async def test_each_call_goes_where_its_key_is(nodes: Cluster, pipeline: Pipeline) -> None:
    names = [f"name{number}" for number in range(300)]
    assert await asyncio.gather(*(pipeline.ask("SET", name, name) for name in names)) == ["OK"] * 300
    assert {nodes.owner(name) for name in names} == {0, 1, 2}
    for name in names:
        assert nodes.primaries[nodes.owner(name)].ask("GET", name) == name
    assert await asyncio.gather(*(pipeline.ask("GET", name) for name in names)) == names


async def test_a_script_runs_on_each_node_though_none_knows_it(nodes: Cluster) -> None:
    for node in nodes.primaries:
        node.ask("SCRIPT", "FLUSH")
    async with RedisClient(nodes.url, deadline_s=DEADLINE_S) as connection:
        guards = [late(nodes.tenant_on(index), "R1") for index in range(3)]
        for answer in await asyncio.gather(*(connection.run(CLAIM, [guard], ["who", 9_000]) for guard in guards * 9)):
            assert answer.split()[1] == "1"


async def test_every_primary_is_asked(nodes: Cluster) -> None:
    async with RedisClient(nodes.url, deadline_s=DEADLINE_S) as connection:
        await connection.check()
        assert await connection.servers() == {node.info("server")["run_id"] for node in nodes.primaries}


async def test_a_primary_is_asked_though_its_socket_is_doubted_meanwhile(nodes: Cluster, pipeline: Pipeline) -> None:
    await pipeline.ask_each("PING")
    # In the very turn in which the slots are told, before anybody who waits for them goes on.
    topology = pipeline._topology
    assert isinstance(topology, Topology)
    topology.look().add_done_callback(lambda _: topology.doubt(nodes.tenant_on(2)))
    assert len(await pipeline.ask_each("PING")) == 3


async def test_a_key_in_two_slots_is_that_calls_fault(nodes: Cluster, pipeline: Pipeline) -> None:
    with pytest.raises(ErrorReply, match="CROSSSLOT"):
        await pipeline.ask("DEL", *(nodes.tenant_on(index) for index in range(3)))


async def test_a_cluster_that_is_taken_for_a_server_is_said(nodes: Cluster) -> None:
    url = f"redis://127.0.0.1:{nodes.primaries[0].port}"
    async with Pipeline(url, deadline_s=DEADLINE_S) as pipeline:
        with pytest.raises(ErrorReply, match="MOVED"):
            await pipeline.ask("GET", nodes.tenant_on(1))
    async with RedisClient(url, deadline_s=DEADLINE_S) as connection:
        with pytest.raises(UnsafeRedis, match="part of a cluster"):
            await connection.check(allow_unsafe=True)


async def test_a_server_that_is_taken_for_a_cluster_is_said(tmp_path: Path) -> None:
    with serving(tmp_path / "alone", NEWEST, None) as node:
        async with Pipeline(f"redis+cluster://127.0.0.1:{node.port}", deadline_s=DEADLINE_S) as pipeline:
            with pytest.raises(SocketLost, match="cluster support disabled"):
                await pipeline.ask("PING")


async def test_a_node_that_was_cut_off_misleads_nobody(nodes: Cluster, pipeline: Pipeline, tmp_path: Path) -> None:
    before = set(await pipeline.ask_each("PING"))
    with serving(tmp_path / "stale", NEWEST, None, "--cluster-enabled", "yes") as stale:
        stale.ask("CLUSTER", "ADDSLOTS", *range(5))
        url = f"redis+cluster://127.0.0.1:{stale.port},127.0.0.1:{nodes.primaries[2].port}"
        async with Pipeline(url, deadline_s=DEADLINE_S) as other:
            assert set(await other.ask_each("PING")) == before


async def test_nobody_there_is_said_at_once() -> None:
    async with Pipeline("redis+cluster://127.0.0.1:1", deadline_s=DEADLINE_S) as pipeline:
        for fault in await asyncio.gather(*(pipeline.ask("PING") for _ in range(5)), return_exceptions=True):
            assert isinstance(fault, SocketLost)


async def test_nodes_that_say_nothing_cost_no_more_than_the_deadline() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        ports = []
        for _ in range(2 * ASKED_AT_ONCE):
            server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
            ports.append((await stack.enter_async_context(server)).sockets[0].getsockname()[1])
        url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"
        pipeline = await stack.enter_async_context(Pipeline(url, deadline_s=2))
        began = monotonic()
        for fault in await asyncio.gather(*(pipeline.ask("GET", f"k{n}") for n in range(5)), return_exceptions=True):
            assert isinstance(fault, ServerSilent)
        assert monotonic() - began < 3.6


@pytest.mark.parametrize("host", ["", "?", None])
async def test_a_node_that_does_not_know_its_name_is_where_it_was_asked(nodes: Cluster, host: str | None) -> None:
    socket = Socket(_locate(Node("127.0.0.1", nodes.primaries[0].port)), deadline_s=DEADLINE_S)
    assert await socket.ask("PING") == "PONG"
    assert place_of(host, 7, socket) == Node("127.0.0.1", 7)
    assert place_of("other", 7, socket) == Node("other", 7)
    await socket.close()


def _locate(place: Node) -> Callable[[], Awaitable[Node]]:
    async def locate() -> Node:
        return place

    return locate


async def test_a_slot_that_moves_under_load_costs_no_call(nodes: Cluster, pipeline: Pipeline) -> None:
    tag = nodes.tenant_on(2)
    names = [f"{{{tag}}}:{number}" for number in range(40)]
    counted = dict.fromkeys(names, 0)
    ended = asyncio.Event()

    async def count(name: str) -> None:
        while not ended.is_set():
            counted[name] += 1
            assert await pipeline.ask("INCR", name) == counted[name]

    tasks = [asyncio.create_task(count(name)) for name in names]
    await asyncio.to_thread(move_slot, nodes, nodes.primaries[2], nodes.primaries[1], key_slot(tag.encode()))
    before = sum(counted.values())
    while sum(counted.values()) < before + 400:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    ended.set()
    await asyncio.gather(*tasks)
    for name in names:
        assert int(nodes.primaries[1].ask("GET", name)) == counted[name]


async def test_keys_in_two_places_are_waited_for(nodes: Cluster, pipeline: Pipeline) -> None:
    tag = nodes.tenant_on(0)
    one, other, slot = f"{{{tag}}}:a", f"{{{tag}}}:b", key_slot(tag.encode())
    await pipeline.ask("MSET", one, 1, other, 2)
    source, target = nodes.primaries[0], nodes.primaries[1]
    source_id, target_id = (node.ask("CLUSTER", "MYID") for node in (source, target))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    source.ask("MIGRATE", "127.0.0.1", target.port, one, 0, 5000)
    asked = pipeline.ask("MGET", one, other)
    await asyncio.sleep(0.2)
    assert not asked.done()
    source.ask("MIGRATE", "127.0.0.1", target.port, other, 0, 5000)
    assert await asked == ["1", "2"]
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    async with Pipeline(nodes.url, deadline_s=1) as hasty:
        source.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        assert await hasty.ask("MGET", one, other) == ["1", "2"]


@pytest.mark.parametrize("server", EACH_SERVER)
async def test_a_node_that_dies_takes_its_own_keys_until_its_replica_has_them(server: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, cluster(Path(folder), server) as nodes:
        # Else all nodes refuse everything while one is gone.
        for node in (*nodes.primaries, nodes.replica):
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with Pipeline(nodes.url, deadline_s=1.0) as pipeline:
            lost, kept = nodes.tenant_on(2), nodes.tenant_on(0)
            await pipeline.ask("SET", lost, "before")
            nodes.primary.kill()
            failed = 0
            async with asyncio.timeout(30):
                while True:
                    assert await pipeline.ask("SET", kept, "value") == "OK"
                    try:
                        assert await pipeline.ask("SET", lost, "after") == "OK"
                    except (SocketLost, ServerSilent, ErrorReply):
                        failed += 1
                        await asyncio.sleep(0.05)
                    else:
                        break
            assert failed > 0
            assert nodes.replica.ask("GET", lost) == "after"
            async with asyncio.timeout(10):
                while nodes.replica.port not in await _primaries(pipeline):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def _primaries(pipeline: Pipeline) -> set[int]:
    """Return the ports of the primaries; none while a node still names the one that died."""
    try:
        return {place.port for place in await pipeline.ask_each("PING")}
    except SocketLost:
        return set()
