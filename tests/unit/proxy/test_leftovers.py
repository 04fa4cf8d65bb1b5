"""Nothing of an exchange outlives it: what holds each other waits for the garbage collector, which seldom comes."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.faults import UpstreamBroken
from proxy.attempt import Attempt
from proxy.exchange_state import ExchangeState
from proxy.http.downstream import Downstream
from tests.transcripts import transcript
from tests.unit.proxy.gateway import CHAT_BODY, STREAM_BODY, gateway, until
from tests.unit.proxy.played_upstream import Answer, fails, replays, silence

CHUNKS = transcript("122-chat-stream-continuous").chunks
REFUSAL = Answer((b'{"error":{"message":"no"}}',), status=400)


@pytest.fixture
def before() -> Iterator[set[int]]:
    """What other tests of this process hold, by address."""
    gc.collect()
    gc.disable()
    yield {id(each) for each in of_exchanges()}
    gc.enable()


def of_exchanges() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, ExchangeState | Attempt | Downstream)]


def left_over(before: set[int]) -> list[object]:
    return [each for each in of_exchanges() if id(each) not in before]


@pytest.mark.parametrize(
    ("answers", "body"),
    [
        ([replays("100-chat")], CHAT_BODY),
        ([Answer(CHUNKS)], STREAM_BODY),
        ([REFUSAL], CHAT_BODY),
        ([Answer((b'data: {"error":{"message":"no","code":400}}\n\n',))], STREAM_BODY),
        ([fails(UpstreamBroken())], CHAT_BODY),
        ([Answer((*CHUNKS[:2], UpstreamBroken()))], STREAM_BODY),
        ([Answer((), status=500)], CHAT_BODY),
        ([Answer((b"odd",))], CHAT_BODY),
        ([], CHAT_BODY | {"max_tokens": 5_000}),
        ([], b"no JSON"),
    ],
    ids=["whole", "stream", "refused", "refused in-band", "broken", "cut", "failed", "odd", "too long", "no JSON"],
)
async def test_an_exchange_leaves_nothing(
    tmp_path: Path, answers: list[Answer], body: dict[str, object] | bytes, before: set[int]
) -> None:
    gw = gateway(tmp_path, a=[*answers], b=[replays("100-chat")])
    await gw.ask(body)
    assert not left_over(before)


async def test_a_client_that_hangs_up_leaves_nothing(tmp_path: Path, before: set[int]) -> None:
    gw = gateway(tmp_path, a=[Answer((silence(),))])
    client = gw.client(CHAT_BODY)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: gw.upstream.open)
    client.left.set()
    await serving
    del serving
    await asyncio.sleep(0)
    assert not left_over(before)
