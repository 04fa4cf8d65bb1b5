"""The client's side: bounds on what it sends, news of its leaving, and what it gets of an answer."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.edge.bodies import Bodies, Share
from proxy.errors import ApiError, ClientGone, Code
from proxy.http.downstream import Downstream
from tests.unit.proxy.gateway import until
from tests.unit.proxy.played_client import PlayedClient


@dataclass
class Held:
    """What a body is held to."""

    body_bytes_max: int = 10
    body_s_max: float = 5.0
    body_stall_s: float = 5.0
    body_bytes_per_s_min: int = 1


ADA = ("acme", "ada")


async def read(client: PlayedClient, bytes_max: int = 10, s_max: float = 5.0) -> bytes:
    return await client.downstream().read_body(ADA, Held(body_bytes_max=bytes_max, body_s_max=s_max))


# --- the body


@pytest.mark.parametrize(
    "client",
    [
        PlayedClient(b"0123456789"),
        PlayedClient(parts=[b"0123", b"", b"456789"]),
        PlayedClient(b"0123456789", {"content-length": "10"}),
        PlayedClient(b"0123456789", {"content-encoding": "identity"}),
        PlayedClient(b"0123456789", {"content-type": "Application/JSON; charset=utf-8"}),
        PlayedClient(b"0123456789", {"content-type": "application/vnd.api+json"}),
    ],
    ids=["whole", "in parts", "declared", "identity", "JSON", "a kind of JSON"],
)
async def test_a_body_within_its_bound(client: PlayedClient) -> None:
    assert await read(client) == b"0123456789"


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (PlayedClient(b"0123456789A"), Code.REQUEST_TOO_LARGE),
        (PlayedClient(parts=[b"0123456789", b"A"]), Code.REQUEST_TOO_LARGE),
        (PlayedClient(parts=[], headers={"content-length": "11"}), Code.REQUEST_TOO_LARGE),
        (PlayedClient(b"x", {"content-encoding": "gzip"}), Code.UNSUPPORTED_MEDIA_TYPE),
        (PlayedClient(b"x", {"content-encoding": "identity, br"}), Code.UNSUPPORTED_MEDIA_TYPE),
        (PlayedClient(b"x", {"content-type": "application/x-www-form-urlencoded"}), Code.INVALID_REQUEST),
        (PlayedClient(b"x", {"content-type": "text/plain; application/json"}), Code.INVALID_REQUEST),
    ],
    ids=["too large", "too large in parts", "declared too large", "encoded", "twice encoded", "a form", "text"],
)
async def test_a_body_beyond_its_bound(client: PlayedClient, code: Code) -> None:
    with pytest.raises(ApiError) as caught:
        await read(client)
    assert caught.value.code is code


async def test_a_body_is_refused_at_its_bound_and_not_read_to_its_end() -> None:
    client = PlayedClient(parts=[b"x" * 8] * 1_000)
    with pytest.raises(ApiError):
        await read(client)
    assert client.more_body


async def test_a_declared_length_that_lies_bounds_nothing() -> None:
    with pytest.raises(ApiError):
        await read(PlayedClient(b"0123456789A", {"content-length": "1"}))


async def test_a_body_that_does_not_arrive() -> None:
    with pytest.raises(ApiError) as caught:
        await read(PlayedClient(parts=[]), s_max=0.01)
    assert caught.value.code is Code.REQUEST_TIMEOUT


class Slow(PlayedClient):
    """One that sends a part of its body each 20 ms, and nothing at the end."""

    async def news(self) -> None:
        """Let the next part arrive."""
        await asyncio.sleep(0.02)
        await super().news()


@pytest.mark.parametrize(
    ("stall_s", "pace", "why"),
    [
        (0.1, 1_000, "came at less than 1000 bytes a second"),
        (5.0, 1_000, "did not arrive within 0.3 seconds"),
        (0.1, 0, "did not arrive within 0.3 seconds"),
    ],
    ids=["too slow", "in its time to be slow", "no pace"],
)
async def test_a_body_slower_than_its_pace_is_not_waited_for(stall_s: float, pace: int, why: str) -> None:
    client = Slow(parts=[b"x"] * 100)
    held = Held(body_bytes_max=100, body_s_max=0.3, body_stall_s=stall_s, body_bytes_per_s_min=pace)
    with pytest.raises(ApiError) as caught:
        await client.downstream().read_body(ADA, held)
    assert (caught.value.code, caught.value.message) == (Code.REQUEST_TIMEOUT, f"The request body {why}.")
    assert no_cancellation_is_left()


async def test_a_body_that_keeps_its_pace_has_all_of_its_time() -> None:
    client = Slow(parts=[b"x" * 1_000] * 20)
    held = Held(body_bytes_max=20_000, body_stall_s=0.2, body_bytes_per_s_min=4_000)
    assert len(await client.downstream().read_body(ADA, held)) == 20_000


async def test_a_client_that_leaves_while_it_sends() -> None:
    client = PlayedClient(parts=[])
    client.left.set()
    with pytest.raises(ClientGone):
        await read(client)


async def test_headers_are_found_by_name() -> None:
    downstream = PlayedClient(headers={"authorization": "Bearer x"}).downstream()
    assert (downstream.header(b"authorization"), downstream.header(b"cookie")) == ("Bearer x", None)


# --- the client's leaving


async def after_body(client: PlayedClient) -> Downstream:
    """Return the client with its body read, as it must be before it is watched."""
    downstream = client.downstream()
    await downstream.read_body(ADA, Held())
    return downstream


async def at_once() -> None:
    """Part with a client at once."""


async def watching(client: PlayedClient, work: Any) -> Any:
    """Await `work` while the client is watched."""
    downstream = await after_body(client)
    with downstream.watched(at_once):
        return await work


def no_cancellation_is_left() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


async def test_a_block_ends_when_the_client_leaves() -> None:
    client = PlayedClient()
    asyncio.get_running_loop().call_soon(client.left.set)
    with pytest.raises(ClientGone):
        await watching(client, asyncio.Event().wait())
    assert no_cancellation_is_left()
    await asyncio.sleep(0)


async def test_a_block_goes_on_while_it_parts_from_its_client() -> None:
    client, parting, parted = PlayedClient(), asyncio.Event(), asyncio.Event()
    downstream = await after_body(client)

    async def part() -> None:
        parting.set()
        await parted.wait()

    async def work() -> None:
        with downstream.watched(part):
            client.left.set()
            await parting.wait()
            assert downstream.left
            parted.set()
            await asyncio.Event().wait()

    with pytest.raises(ClientGone):
        await work()
    assert no_cancellation_is_left()


async def test_a_block_that_ends_while_it_parts_ends_the_parting() -> None:
    client, parting, ended = PlayedClient(), asyncio.Event(), asyncio.Event()
    downstream = await after_body(client)

    async def part() -> None:
        try:
            parting.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    with downstream.watched(part):
        client.left.set()
        await parting.wait()
    await ended.wait()
    assert downstream.left
    assert no_cancellation_is_left()


async def test_a_client_that_left_lets_no_later_block_begin() -> None:
    client = PlayedClient()
    downstream = await after_body(client)
    client.left.set()
    for _ in range(2):
        with pytest.raises(ClientGone), downstream.watched(at_once):
            raise AssertionError
    assert no_cancellation_is_left()


async def test_a_block_that_ends_is_left_alone() -> None:
    client = PlayedClient()
    assert await watching(client, asyncio.sleep(0, "done")) == "done"
    client.left.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert no_cancellation_is_left()


async def test_a_fault_of_the_block_stays_what_it_is() -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await watching(PlayedClient(), fail())


async def test_somebody_elses_cancellation_ends_a_parting() -> None:
    client, parting = PlayedClient(), asyncio.Event()
    downstream = await after_body(client)

    async def part() -> None:
        parting.set()
        await asyncio.Event().wait()

    async def work() -> None:
        with downstream.watched(part):
            client.left.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await parting.wait()
    task.cancel()
    await until(task.done)
    assert task.cancelled()


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves too"])
async def test_somebody_elses_cancellation_passes_through(*, leaves: bool) -> None:
    client, begun = PlayedClient(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(watching(client, work()))
    await begun.wait()
    if leaves:
        client.left.set()
    task.cancel()
    await until(task.done)
    assert task.cancelled()


async def test_a_deadline_around_the_block_keeps_its_own_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await watching(PlayedClient(), asyncio.Event().wait())
    assert no_cancellation_is_left()


async def test_a_client_that_leaves_after_its_answer_is_no_loss() -> None:
    client = PlayedClient()
    downstream = await after_body(client)
    with downstream.watched(at_once):
        await downstream.answer(200, b"", b"{}")
        client.left.set()
        for _ in range(20):
            await asyncio.sleep(0)
    assert client.answer == b"{}"


# --- the answer


async def test_the_head_goes_out_with_the_first_part() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    downstream.head(200, b"x-request-id: R\r\n")
    assert (client.messages, downstream.started) == ([], False)
    downstream.write(b"one")
    downstream.write(b"two")
    await downstream.finish(b"end")
    assert [message.get("more_body") for message in client.messages] == [None, True, True, False]
    assert (client.status, client.answer_headers, client.answer) == (200, {"x-request-id": "R"}, b"onetwoend")


async def test_the_last_word_on_the_head_counts_until_it_is_out() -> None:
    client = PlayedClient()
    downstream = client.downstream()
    downstream.head(200, b"")
    await downstream.answer(429, b"retry-after: 7\r\n", b"{}")
    assert client.status == 429
    assert client.answer_headers == {"retry-after": "7", "content-length": "2"}


@pytest.mark.parametrize("stalls_after", [0, 1], ids=["at the head", "at the end"])
async def test_a_client_that_does_not_read_the_end_is_gone(stalls_after: int) -> None:
    client = PlayedClient(stalls_after=stalls_after)
    downstream: Downstream = client.downstream(write_s_max=0.01)
    downstream.head(200, b"")
    if stalls_after:
        downstream.write(b"one")
    with pytest.raises(ClientGone):
        await downstream.finish(b"end")
    assert no_cancellation_is_left()


async def test_what_is_written_at_once_has_its_length_and_what_is_written_in_parts_has_none() -> None:
    whole, parts = PlayedClient(), PlayedClient()
    for client in (whole, parts):
        downstream = client.downstream()
        downstream.head(200, b"x-request-id: R\r\n")
        if client is parts:
            downstream.write(b"")
        await downstream.finish(b"end")
    assert whole.answer_headers == {"x-request-id": "R", "content-length": "3"}
    assert parts.answer_headers == {"x-request-id": "R"}
    assert whole.answer == parts.answer == b"end"


@pytest.mark.parametrize("stalls_after", [None, 3], ids=["reads", "stalls"])
async def test_a_whole_answer_in_parts_is_written_as_fast_as_it_is_read(stalls_after: int | None) -> None:
    client = PlayedClient(stalls_after=stalls_after)
    downstream = client.downstream(write_s_max=0.01)
    downstream.head(200, b"x-request-id: R\r\n")
    with suppress(ClientGone):
        await downstream.finish(*[b"part"] * 10)
    assert client.answer_headers == {"x-request-id": "R", "content-length": "40"}
    assert (client.answer, client.complete) == (b"part" * (stalls_after or 10), stalls_after is None)


async def test_some_lines_are_in_every_head() -> None:
    client = PlayedClient()
    downstream = Downstream(client, Share(Bodies(), 1), b"vary: Origin\r\n", write_s_max=5.0)
    downstream.head(200, b"")
    await downstream.answer(429, b"retry-after: 7\r\n", b"")
    assert client.answer_headers == {"vary": "Origin", "retry-after": "7", "content-length": "0"}


async def test_a_writer_learns_when_its_client_does_not_keep_up() -> None:
    client = PlayedClient(stalls_after=2)
    downstream = client.downstream()
    downstream.head(200, b"")
    assert (downstream.write(b"one"), downstream.write(b"two")) == (True, False)
    waiting = asyncio.create_task(downstream.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    client.left.set()
    await waiting
    assert downstream.write(b"three")
    assert client.answer == b"onetwo"
