"""What of a replica's stream goes on, beyond what test_exchange.py shows of whole exchanges."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from engine.faults import UpstreamBroken
from engine.fleet.replica import SILENCES_MAX
from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from proxy.billing.record import ExchangeRecord, Source
from proxy.stages import relay
from tests.transcripts import transcript
from tests.unit.proxy.gateway import CHAT_BODY, CONFIG, STREAM_BODY, Gateway, gateway, until
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import Answer, Pause, Step, replays, silence

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


# --- a client that hangs up before anything is known, on a replica that aborts by id


ABORTS = CONFIG.replace('url = "http://a"', 'url = "http://a", abort_path = "/abort_requests"')


def told_on_abort(gw: Gateway, *steps: Step) -> Answer:
    """Return an answer that begins once it is aborted."""
    return Answer((gw.upstream.on_abort, *steps))


async def hung_up_on(gw: Gateway, body: dict[str, object], protocol: ApiProtocol = CHAT) -> ExchangeRecord:
    """Hang up while the replica is silent; return the bill."""
    client = gw.client(body)
    serving = asyncio.create_task(gw.serve(client, protocol))
    await until(lambda: gw.upstream.open)
    client.left.set()
    async with asyncio.timeout(5):
        await serving
    assert client.messages == []
    gw.assert_nothing_is_held()
    (record,) = gw.store.ledger
    assert record.outcome == "client_closed"
    return record


async def test_a_stream_is_aborted_by_its_id_and_billed_as_the_replica_then_says(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[])
    gw.upstream.answers["a"] = [told_on_abort(gw, *transcript("420-by-id-stream").chunks)]
    record = await hung_up_on(gw, STREAM_BODY | {"max_tokens": 2_000})
    told = json.loads(transcript("420-by-id-stream").chunks[-2][6:])["usage"]
    assert (record.prompt_tokens, record.completion_tokens) == (told["prompt_tokens"], told["completion_tokens"])
    assert gw.upstream.aborted[0] == [f"chatcmpl-{record.request_id}"]
    assert record.source is Source.CUT
    assert gw.store.kept == [0]
    assert gw.used()["tokens"] == told["total_tokens"]
    assert gw.metric("tollway_waste_tokens_total") == 0


async def test_an_answer_in_one_piece_too(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[])
    gw.upstream.answers["a"] = [told_on_abort(gw, transcript("421-by-id").body)]
    record = await hung_up_on(gw, CHAT_BODY | {"max_tokens": 2_000})
    told = json.loads(transcript("421-by-id").body)["usage"]
    assert (record.prompt_tokens, record.completion_tokens) == (told["prompt_tokens"], told["completion_tokens"])


@pytest.mark.parametrize(
    ("body", "recorded"),
    [(STREAM_BODY, "425-by-id-held-stream"), (CHAT_BODY, "426-by-id-held")],
    ids=["stream", "json"],
)
async def test_what_is_aborted_before_its_first_token_is_billed_nothing_and_keeps_its_quota(
    tmp_path: Path, body: dict[str, object], recorded: str
) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[])
    gw.upstream.answers["a"] = [told_on_abort(gw, *transcript(recorded).chunks)]
    record = await hung_up_on(gw, body)
    assert (record.prompt_tokens, record.completion_tokens, record.charge_picos) == (0, 0, 0)
    assert record.source is Source.UNOBSERVED
    assert gw.store.kept == [record.wasted_tokens]
    assert gw.used()["tokens"] == record.wasted_tokens > 0


async def test_an_abort_has_a_quarter_of_a_second_and_is_sent_twice(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[Answer((silence(),))])
    began = time.monotonic()
    record = await hung_up_on(gw, {"model": "demo", "prompt": ["a", "b"], "stream": True, "max_tokens": 9}, COMPLETIONS)
    assert time.monotonic() - began >= relay.READ_ON_S_MAX
    assert gw.upstream.aborted == [[f"cmpl-{record.request_id}-0", f"cmpl-{record.request_id}-1"]] * 2
    assert record.source is Source.UNOBSERVED
    assert gw.store.kept == [record.wasted_tokens]
    assert gw.used()["tokens"] == record.wasted_tokens > 0


async def test_of_a_list_that_was_aborted_only_tokens_are_proven(tmp_path: Path) -> None:
    choices = [{"index": at, "text": text, "finish_reason": "abort"} for at, text in enumerate(("ab", ""))]
    body = json.dumps({"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 2}}).encode()
    gw = gateway(tmp_path, config=ABORTS, a=[])
    gw.upstream.answers["a"] = [told_on_abort(gw, body)]
    record = await hung_up_on(gw, {"model": "demo", "prompt": ["a", "b"], "max_tokens": 9}, COMPLETIONS)
    assert (record.prompt_tokens, record.completion_tokens) == (0, 2)


async def test_a_hang_up_after_the_first_usage_ends_at_once(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[Answer((*CHUNKS[:4], silence()))])
    client = await gw.ask(STREAM_BODY, leaves_after=4)
    assert client.events
    assert gw.upstream.aborted == []
    assert gw.store.ledger[0].completion_tokens == 3


async def test_a_gateway_that_is_killed_reads_nothing_on(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=ABORTS, a=[Answer((silence(),))])
    client = gw.client(STREAM_BODY)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: gw.upstream.open)
    serving.cancel()
    await serving
    assert gw.upstream.aborted == []
    assert gw.store.ledger[0].outcome == "shutdown"
    gw.assert_nothing_is_held()


# --- a replica that hangs


HURRIED = CONFIG.replace(', { name = "b", url = "http://b", sequences = 4 }', "") + "ttft_s_max = 0.02\n"


async def test_a_replica_that_misses_deadlines_in_a_row_gets_no_work(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=HURRIED, a=[Answer((silence(),)) for _ in range(SILENCES_MAX)])
    statuses = [(await gw.ask(STREAM_BODY)).status for _ in range(SILENCES_MAX + 1)]
    assert statuses == [504] * SILENCES_MAX + [503]


async def test_one_token_between_them_is_enough(tmp_path: Path) -> None:
    hangs = [Answer((silence(),)) for _ in range(SILENCES_MAX - 1)]
    gw = gateway(tmp_path, config=HURRIED, a=[*hangs, Answer(CHUNKS), *hangs, Answer(CHUNKS)])
    statuses = [(await gw.ask(STREAM_BODY)).status for _ in range(2 * SILENCES_MAX)]
    assert statuses == [*[504] * (SILENCES_MAX - 1), 200] * 2


async def test_comments_are_no_tokens(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=HURRIED + "idle_s_max = 0.05\n", a=[])
    steps: list[Step] = [*CHUNKS[:3]]
    steps += [COMMENT, Pause(0.01)] * 1_000
    gw.upstream.answers["a"] = [Answer(tuple(steps))]
    client = await gw.ask(STREAM_BODY)
    assert json.loads(client.events[-1])["error"]["code"] == "stream_truncated"
    assert client.answer.count(b"keep-alive") < 100


# --- a replica that is gone


BEREFT = CONFIG + "gone_s_max = 0.02\n"


async def bereft(gw: Gateway, body: dict[str, object], *, frames: int = 0) -> PlayedClient:
    """Let the first replica be found gone once a client has so many frames of it; return what the client read."""
    client = gw.client(body)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: gw.upstream.open)
    await until(lambda: client.answer.count(b"data: ") >= frames)
    gw.pools["demo"]["a"].healthy = False
    gw.pools["demo"]["a"].bereave()
    async with asyncio.timeout(5):
        await serving
    return client


async def test_a_silent_stream_of_a_replica_that_is_gone_is_cut_told_why_and_billed_by_its_last_usage(
    tmp_path: Path,
) -> None:
    gw = gateway(tmp_path, config=BEREFT, a=[Answer((*CHUNKS[:4], silence()))])
    client = await bereft(gw, STREAM_BODY, frames=4)
    error = json.loads(client.events[-1])["error"]
    assert error["code"] == "stream_truncated"
    assert "(gone)" in error["message"]
    (record,) = gw.store.ledger
    assert (record.outcome, record.source, record.completion_tokens) == ("stream_truncated", Source.CUT, 3)
    assert gw.metric("tollway_upstream_failures_total", replica="a", reason="gone") == 1
    assert gw.pools["demo"]["a"].silences == 0
    gw.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("body", "answer"),
    [(STREAM_BODY, Answer(CHUNKS)), (CHAT_BODY, replays("100-chat"))],
    ids=["stream", "json"],
)
async def test_what_has_nothing_yet_of_a_replica_that_is_gone_is_asked_of_another(
    tmp_path: Path, body: dict[str, object], answer: Answer
) -> None:
    gw = gateway(tmp_path, config=BEREFT, a=[Answer((silence(),))], b=[answer])
    client = await bereft(gw, body)
    assert (client.status, client.answer_headers["x-tollway-replica"]) == (200, "b")
    (record,) = gw.store.ledger
    assert (record.outcome, record.replica, record.attempts, record.wasted_tokens) == ("ok", "b", 2, 0)


async def test_without_another_replica_the_client_reads_that_it_is_gone_and_pays_nothing(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=BEREFT, down=("b",), a=[Answer((silence(),))])
    client = await bereft(gw, CHAT_BODY)
    assert client.status == 502
    assert "(gone)" in json.loads(client.answer)["error"]["message"]
    assert gw.store.ledger == []
    assert gw.used()["tokens"] == 0
    gw.assert_nothing_is_held()


async def test_a_stream_that_goes_on_is_not_cut_whatever_is_said_of_its_replica(tmp_path: Path) -> None:
    steps: list[Step] = [CHUNKS[0], CHUNKS[1]]
    steps += [step for chunk in CHUNKS[2:] for step in (Pause(0.02), chunk)]
    gw = gateway(tmp_path, config=CONFIG + "gone_s_max = 2.0\n", a=[Answer(tuple(steps))])
    assert (await bereft(gw, STREAM_BODY, frames=2)).events[-1] == b"[DONE]"


NAMED = CONFIG.replace('{ name = "a", url = "http://a",', '{ name = "a", url = "http://a", upstream_model = "meta/L",')


@pytest.mark.parametrize("asked", ["demo", "gpt-4o-mini"])
@pytest.mark.parametrize(
    ("body", "recorded"), [(STREAM_BODY, "122-chat-stream-continuous"), (CHAT_BODY, "100-chat")], ids=["stream", "json"]
)
async def test_an_engine_is_asked_by_its_own_name_and_answers_by_the_models(
    tmp_path: Path, asked: str, body: dict[str, Any], recorded: str
) -> None:
    plain, named = gateway(tmp_path, a=[replays(recorded)]), gateway(tmp_path, config=NAMED, a=[replays(recorded)])
    before, after = [await gw.ask(body | {"model": asked}) for gw in (plain, named)]
    assert [gw.upstream.asked[0].body["model"] for gw in (plain, named)] == ["demo", "meta/L"]
    served = f'"model":"{json.loads(transcript("100-chat").body)["model"]}"'.encode()
    assert after.answer == before.answer.replace(served, b'"model":"demo"')
    assert after.answer.count(b'"model":"demo"') == before.answer.count(served) > 0
    assert [gw.store.ledger[0].model for gw in (plain, named)] == ["demo", "demo"]
    assert after.answer_headers.get("content-length") in (None, str(len(after.answer)))


# --- a stream that is silent while its engine generates


IDLE = CONFIG + "idle_s_max = 0.5\n"


async def silent_while(gw: Gateway, generates_for: int) -> float:
    """Have a stream fall silent while its engine is seen to generate, so many times; return when it ended."""
    loop = asyncio.get_running_loop()
    serving, began = asyncio.create_task(gw.ask(STREAM_BODY)), loop.time()
    for _ in range(generates_for):
        gw.pools["demo"]["a"].generating_at = loop.time()
        await asyncio.sleep(0.1)
    client = await serving
    assert json.loads(client.events[-1])["error"]["code"] == "stream_truncated"
    return loop.time() - began


async def test_a_stream_is_not_idle_while_its_engine_generates(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=IDLE, a=[Answer((*CHUNKS[:4], silence()))])
    assert await silent_while(gw, 8) >= 8 * 0.1
    assert gw.metric("tollway_upstream_failures_total", replica="a", reason="timeout") == 1
    (record,) = gw.store.ledger
    assert record.completion_tokens == 3


async def test_a_stream_of_an_engine_that_does_not_is_cut_when_it_was_idle_for_long(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=IDLE, a=[Answer((*CHUNKS[:4], silence()))])
    assert await silent_while(gw, 0) >= 0.5


async def test_its_first_token_is_owed_in_time_whatever_else_its_engine_generates(tmp_path: Path) -> None:
    gw = gateway(tmp_path, config=HURRIED, a=[Answer((silence(),))])
    gw.pools["demo"]["a"].generating_at = asyncio.get_running_loop().time() + 60
    assert (await gw.ask(STREAM_BODY)).status == 504
