"""What of a replica's stream goes on, beyond what test_exchange.py shows of whole exchanges."""

import asyncio
from pathlib import Path

import pytest

from engine.faults import UpstreamBroken
from proxy.stages import relay
from tests.transcripts import transcript
from tests.unit.proxy.gateway import CHAT_BODY, CONFIG, STREAM_BODY, gateway
from tests.unit.proxy.played_upstream import Answer, replays, silence

CHUNKS = transcript("122-chat-stream-continuous").chunks
COMMENT = b": keep-alive\n\n"


async def test_comments_go_on_once_the_answer_has_begun(tmp_path: Path) -> None:
    gw = gateway(tmp_path, a=[Answer((COMMENT, CHUNKS[0], COMMENT, *CHUNKS[1:]))])
    client = await gw.ask(STREAM_BODY)
    assert client.answer.count(COMMENT) == 1
    assert client.answer.index(b"data: ") < client.answer.index(COMMENT)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_answer_does_not_depend_on_how_it_arrives(tmp_path: Path, size: int) -> None:
    body = b"".join(CHUNKS)
    cut = tuple(body[start : start + size] for start in range(0, len(body), size))
    whole, in_parts = gateway(tmp_path, a=[Answer(CHUNKS)]), gateway(tmp_path, a=[Answer(cut)])
    clients = [await gw.ask(STREAM_BODY) for gw in (whole, in_parts)]
    assert clients[0].answer == clients[1].answer
    records = [gw.store.ledger[0] for gw in (whole, in_parts)]
    assert records[0].completion_tokens == records[1].completion_tokens == 6


@pytest.mark.parametrize(("body", "recorded"), [(STREAM_BODY, "122-chat-stream-continuous"), (CHAT_BODY, "100-chat")])
async def test_a_whole_answer_leaves_its_connection_usable(
    tmp_path: Path, body: dict[str, object], recorded: str
) -> None:
    gw = gateway(tmp_path, a=[replays(recorded)])
    await gw.ask(body)
    assert gw.upstream.reusable == 1


@pytest.mark.parametrize("after", [silence(), UpstreamBroken()], ids=["silence", "a fault"])
async def test_after_done_nothing_can_spoil_the_answer(
    tmp_path: Path, after: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_END_S_MAX", 0.01)
    gw = gateway(tmp_path, a=[Answer((*CHUNKS, after))])
    client = await gw.ask(STREAM_BODY)
    assert client.events[-1] == b"[DONE]"
    assert gw.store.ledger[0].outcome == "ok"
    gw.assert_nothing_is_held()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"choices":[]}',
        b'{"choices":[],"usage":null}',
        b'{"choices":[],"usage":{"prompt_tokens":"many"}}',
        b'{"choices":7,"usage":{"prompt_tokens":1}}',
    ],
)
async def test_an_answer_that_tells_no_usage_is_not_passed_on(tmp_path: Path, body: bytes) -> None:
    gw = gateway(tmp_path, a=[Answer((body,))], b=[replays("100-chat")])
    client = await gw.ask(CHAT_BODY)
    assert client.answer == transcript("100-chat").body
    assert client.answer_headers["x-tollway-replica"] == "b"


@pytest.mark.parametrize("error", [b'"words"', b"[]", b'{"code":[400]}', b'{"code":"400"}', b"null"])
async def test_an_error_of_a_shape_nobody_knows_sends_us_elsewhere(tmp_path: Path, error: bytes) -> None:
    frame = b'data: {"error":' + error + b"}\n\n"
    gw = gateway(tmp_path, a=[Answer((frame,))], b=[Answer(CHUNKS)])
    client = await gw.ask(STREAM_BODY)
    assert client.events[-1] == b"[DONE]"
    assert client.answer_headers["x-tollway-replica"] == "b"


async def test_an_answer_in_one_piece_may_take_longer_than_a_first_token(tmp_path: Path) -> None:
    late = silence()
    gw = gateway(tmp_path, config=CONFIG + "ttft_s_max = 0.01\n", a=[Answer((late, transcript("100-chat").body))])
    asyncio.get_running_loop().call_later(0.05, late.set)
    assert (await gw.ask(CHAT_BODY)).status == 200
