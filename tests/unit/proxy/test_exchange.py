"""One request's life and every way it can end: what the client reads, what is billed, and that nothing stays held."""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.faults import ConnectFailed, TlsFailed, UpstreamBroken
from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from engine.protocols.embeddings import EMBEDDINGS
from engine.wire import sse
from policies.pricing import decimal
from proxy.billing.record import ExchangeRecord, Source
from proxy.stages import relay
from tests.transcripts import transcript
from tests.unit.proxy.gateway import CHAT_BODY, CONFIG, STREAM_BODY, Gateway, gateway, until
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import OWN_ID, Answer, Pause, Step, fails, replays, silence

STREAM = "122-chat-stream-continuous"
STREAM_USAGE = (17, 6)
"""Its prompt and completion tokens."""
CUT = 4
"""Chunks after which it is cut: the role and three tokens."""
CUT_USAGE = (17, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def bill(gw: Gateway) -> ExchangeRecord:
    """Return the one row of the ledger."""
    (record,) = gw.store.ledger
    return record


def logged(caplog: pytest.LogCaptureFixture) -> list[ExchangeRecord]:
    return [record.exchange for record in caplog.records if record.name == "tollway.exchange"]  # type: ignore[attr-defined]


def tokens(record: ExchangeRecord) -> tuple[int, int]:
    return record.prompt_tokens, record.completion_tokens


def code(client: PlayedClient) -> str:
    return str(client.json["error"]["code"])


def in_band(client: PlayedClient) -> str:
    """Return the code of the error that ends a stream."""
    return str(json.loads(client.events[-1])["error"]["code"])


# --- answers that come to their end


async def test_a_stream_is_relayed_billed_and_metered(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw = gateway(folder, a=[replays(STREAM)])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, client.complete) == (200, True)
    assert client.answer_headers["content-type"].startswith("text/event-stream")
    recorded = [json.loads(chunk[6:]) for chunk in transcript(STREAM).chunks[:-1]]
    assert [json.loads(event) for event in client.events[:-1]] == [
        {key: value for key, value in frame.items() if key != "usage"} for frame in recorded if frame["choices"]
    ]
    assert client.events[-1] == b"[DONE]"
    record = bill(gw)
    assert tokens(record) == STREAM_USAGE
    assert (record.outcome, record.source, record.replica, record.attempts) == ("ok", Source.ENGINE, "a", 1)
    assert (record.tenant, record.user, record.plan, record.model, record.stream) == (
        "acme",
        "ada",
        "pro",
        "demo",
        True,
    )
    assert (record.price_version, record.currency, record.charge_picos) == ("7", "EUR", (17 + 2 * 6) * 1_000_000)
    assert logged(caplog) == [record]
    assert client.answer_headers["x-request-id"] == record.request_id
    assert client.answer_headers["x-tollway-replica"] == "a"
    assert gw.used() == {"tokens": 23, "requests": 1, "concurrent": 0}
    assert gw.metric("tollway_tokens_total", kind="completion") == 6
    assert gw.metric("tollway_requests_total", outcome="ok") == 1
    gw.assert_nothing_is_held()


async def test_a_stream_without_usage_is_named_by_what_its_replica_called_itself(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM), replays(STREAM)])
    clients = [await gw.ask(STREAM_BODY) for _ in range(2)]
    named = re.compile(rb'"finish_reason":"length".*"system_fingerprint":"([^"]+)"')
    names = [named.findall(client.answer) for client in clients]
    assert names == [[], [b"vllm-0.32.0-e25804e6"]]


async def test_an_answer_in_one_piece(folder: Path) -> None:
    gw = gateway(folder, a=[replays("100-chat")])
    client = await gw.ask(CHAT_BODY)
    assert client.answer == transcript("100-chat").body
    assert client.answer_headers["content-length"] == str(len(client.answer))
    assert (tokens(bill(gw)), bill(gw).outcome, bill(gw).stream) == ((17, 6), "ok", False)
    gw.assert_nothing_is_held()


async def test_an_answer_in_one_piece_says_what_it_cost(folder: Path) -> None:
    gw = gateway(folder, a=[replays("100-chat")])
    client = await gw.ask(CHAT_BODY)
    assert client.answer_headers["x-tollway-charge"] == f"{decimal(bill(gw).charge_picos)} EUR" == "0.000029 EUR"


async def test_a_stream_says_what_it_cost_to_who_asks(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM), replays(STREAM)])
    client = await gw.ask(STREAM_BODY, headers={"x-tollway-charge": "stream"})
    assert client.answer.endswith(b"\n\n: x-tollway-charge: 0.000029 EUR\n\ndata: [DONE]\n\n")
    assert "x-tollway-charge" not in client.answer_headers
    assert b"x-tollway-charge" not in (await gw.ask(STREAM_BODY)).answer
    assert (await gw.ask(STREAM_BODY, headers={"x-tollway-charge": "json"})).status == 400


async def test_what_has_no_price_tells_no_charge(folder: Path) -> None:
    unpriced = re.sub(r"\[\[prices\]\][^\[]*", "", CONFIG)
    gw = gateway(folder, config=unpriced, a=[replays("100-chat"), replays(STREAM)])
    assert "x-tollway-charge" not in (await gw.ask(CHAT_BODY)).answer_headers
    client = await gw.ask(STREAM_BODY, headers={"x-tollway-charge": "stream"})
    assert (client.complete, b"x-tollway-charge" in client.answer) == (True, False)


async def test_a_prompt_list_with_choices_is_billed_as_the_engine_sums_it(folder: Path) -> None:
    name = "223-completion-stream-list-n2-continuous"
    recorded = transcript(name)
    gw = gateway(folder, a=[replays(name)])
    body = {"model": "demo", "prompt": recorded.asked["prompt"], "n": 2, "max_tokens": 8, "stream": True}
    await gw.ask(body, COMPLETIONS)
    told = json.loads(recorded.chunks[-2][6:])["usage"]
    assert tokens(bill(gw)) == (told["prompt_tokens"], told["completion_tokens"])
    assert bill(gw).n == 2 * len(recorded.asked["prompt"])


@pytest.mark.parametrize(("body", "recorded"), [(STREAM_BODY, STREAM), (CHAT_BODY, "100-chat")], ids=["stream", "json"])
async def test_it_is_settled_before_the_end_goes_out(folder: Path, body: dict[str, object], recorded: str) -> None:
    gw = gateway(folder, a=[replays(recorded)])
    gw.store.held["settle"] = settled = asyncio.Event()
    client = gw.client(body)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: gw.store.ledger)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not client.complete
    assert b"[DONE]" not in client.answer
    settled.set()
    await serving
    assert client.complete


async def test_what_the_engine_reads(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM)])
    client = await gw.ask(STREAM_BODY | {"model": "gpt-4o-mini", "priority": -1, "cache_salt": "mine", "user": "x"})
    (asked,) = gw.upstream.asked
    assert (asked.replica, asked.path) == ("a", "/v1/chat/completions")
    assert asked.body["model"] == "demo"
    assert asked.body["max_completion_tokens"] == 100
    assert asked.body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert asked.body["cache_salt"] not in ("mine", "")
    assert not {"priority", "user"} & set(asked.body)
    assert set(asked.headers) == {"content-type", "accept-encoding", "x-request-id"}
    assert asked.headers["x-request-id"] == client.answer_headers["x-request-id"]
    assert gw.metric("tollway_stripped_fields_total", endpoint="chat") == 3
    assert gw.metric("tollway_stripped_fields_total", endpoint="chat", field="priority") == 1
    assert client.answer_headers["x-tollway-ignored"] == "priority, cache_salt, user"


ODD_FIELDS = {"a b": 1, "x\r\ny: z": 1, "n" * 65: 1, "": 1, "\u00e9": 1}
"""Of names that no header repeats."""


async def test_what_is_left_out_is_named_as_far_as_it_can_be(folder: Path) -> None:
    gw = gateway(folder, a=[replays("100-chat"), replays("100-chat")])
    client = await gw.ask(CHAT_BODY | ODD_FIELDS | {f"field_{number}": 1 for number in range(20)})
    assert client.answer_headers["x-tollway-ignored"] == ", ".join(f"field_{number}" for number in range(16))
    assert gw.metric("tollway_stripped_fields_total", endpoint="chat", field="other") == 25
    assert "x-tollway-ignored" not in (await gw.ask(CHAT_BODY | ODD_FIELDS)).answer_headers


async def test_an_operator_may_refuse_what_would_be_left_out(folder: Path) -> None:
    config = CONFIG.replace("template_tokens = 10", 'template_tokens = 10\nunknown_fields = "refuse"', 1)
    gw = gateway(folder, config=config, a=[replays("100-chat")])
    client = await gw.ask(CHAT_BODY | {"priority": 1, "foo": 2})
    assert (client.status, code(client), client.json["error"]["param"]) == (400, "invalid_request", "priority")
    assert "priority, foo" in client.json["error"]["message"]
    assert (await gw.ask(CHAT_BODY | ODD_FIELDS)).status == 400
    assert (await gw.ask(CHAT_BODY)).status == 200


async def test_a_clamp_is_told_and_forwarded(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM)])
    client = await gw.ask(
        {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": True}, plan="free"
    )
    told = int(client.answer_headers["x-tollway-max-completion"])
    assert 16 <= told < 100
    assert gw.upstream.asked[0].body["max_completion_tokens"] == told


# --- requests that are turned away before a replica works


@pytest.mark.parametrize(
    ("body", "headers", "refused"),
    [
        (STREAM_BODY, {"authorization": "Bearer forged"}, (401, "invalid_api_key")),
        (b"{", {}, (400, "invalid_request")),
        (STREAM_BODY | {"n": 99}, {}, (400, "invalid_request")),
        (STREAM_BODY | {"model": "nobody"}, {}, (404, "model_not_found")),
        (STREAM_BODY | {"model": "secret"}, {}, (403, "model_not_allowed")),
        (STREAM_BODY | {"max_tokens": 4097}, {}, (400, "context_length_exceeded")),
        (STREAM_BODY, {"content-encoding": "gzip"}, (415, "unsupported_media_type")),
        (STREAM_BODY, {"content-length": "100001"}, (413, "request_too_large")),
        (b"x" * 100_001, {}, (413, "request_too_large")),
    ],
)
async def test_a_request_that_is_refused_costs_nothing(
    folder: Path, body: dict[str, object] | bytes, headers: dict[str, str], refused: tuple[int, str]
) -> None:
    gw = gateway(folder)
    client = await gw.ask(body, headers=headers)
    assert (client.status, code(client)) == refused
    assert len(client.answer_headers["x-request-id"]) == 26
    assert (gw.store.steps, gw.upstream.asked) == ([], [])
    assert gw.metric("tollway_requests_total", outcome=refused[1]) == 1


async def test_a_limit_that_is_reached_tells_its_own_wait(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM)])
    body = STREAM_BODY | {"max_tokens": 16}
    await gw.ask(body, plan="free")
    client = await gw.ask(body | {"messages": [{"role": "user", "content": "x" * 40}]}, plan="free")
    assert (client.status, code(client)) == (429, "rate_limit_exceeded")
    assert 1 <= int(client.answer_headers["retry-after"]) <= 60
    assert client.answer_headers["x-ratelimit-remaining-tokens"] == "77"
    assert len(gw.store.ledger) == len(gw.upstream.asked) == 1
    gw.assert_nothing_is_held()


async def test_a_request_that_never_fits_is_not_told_to_wait(folder: Path) -> None:
    client = await gateway(folder).ask(
        STREAM_BODY | {"messages": [{"role": "user", "content": "x" * 200}]}, plan="free"
    )
    assert (client.status, code(client)) == (400, "tokens_exceed_plan")
    assert "retry-after" not in client.answer_headers


async def test_no_replica(folder: Path) -> None:
    gw = gateway(folder, down=("a", "b"))
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (503, "no_replica")
    assert gw.used() == {"tokens": 0, "requests": 0, "concurrent": 0}
    gw.assert_nothing_is_held()


async def test_no_room(folder: Path) -> None:
    gw = gateway(folder, down=("b",), a=[replays(STREAM, until=CUT, then=[silence()])])
    first = gw.client(STREAM_BODY | {"n": 4})
    serving = asyncio.create_task(gw.serve(first))
    await until(lambda: first.answer)
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (429, "queue_full")
    assert 1 <= int(client.answer_headers["retry-after"]) <= 5
    first.left.set()
    await serving
    gw.assert_nothing_is_held()


# --- the engine's own refusals


@pytest.mark.parametrize("recorded", ["303-prompt-too-long", "316-bad-temperature", "322-empty-messages"])
async def test_a_refusal_of_the_engine_passes_through_and_counts_one_request(folder: Path, recorded: str) -> None:
    gw = gateway(folder, a=[replays(recorded)])
    client = await gw.ask(CHAT_BODY)
    assert (client.status, client.answer) == (400, transcript(recorded).body)
    assert gw.used() == {"tokens": 0, "requests": 1, "concurrent": 0}
    record = bill(gw)
    assert (tokens(record), record.charge_picos, record.outcome) == ((0, 0), 0, "invalid_request")
    gw.assert_nothing_is_held()


async def test_a_refusal_in_the_first_frame_becomes_a_real_400(folder: Path) -> None:
    gw = gateway(folder, a=[replays("309-bad-logprobs-stream")])
    client = await gw.ask(STREAM_BODY)
    assert client.status == 400
    assert client.json["error"]["param"] == "logprobs"
    assert client.answer_headers["content-type"] == "application/json"
    assert (tokens(bill(gw)), gw.used()["requests"]) == ((0, 0), 1)
    gw.assert_nothing_is_held()


@pytest.mark.parametrize("recorded", ["300-unknown-model", "005-method-not-allowed"])
async def test_other_refusals_are_our_fault_and_tell_nothing_of_the_engine(folder: Path, recorded: str) -> None:
    gw = gateway(folder, a=[replays(recorded)], b=[replays(recorded)])
    client = await gw.ask(CHAT_BODY)
    assert (client.status, code(client)) == (502, "upstream_error")
    assert transcript(recorded).body not in client.answer
    assert (gw.used()["requests"], gw.store.ledger) == (0, [])
    gw.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("failures", "requests"),
    [([500, 500], 1), ([500, 503], 1), ([503, 500], 1), ([503, 503], 0), ([401, 404], 0)],
    ids=str,
)
async def test_only_what_the_request_may_have_caused_counts_it_once(
    folder: Path, failures: list[int], requests: int
) -> None:
    a, b = ([Answer((b"{}",), status)] for status in failures)
    gw = gateway(folder, a=a, b=b)
    client = await gw.ask(CHAT_BODY)
    assert (client.status, code(client)) == (502, "upstream_error")
    assert f"status_{failures[-1]}" in client.json["error"]["message"]
    assert gw.used() == {"tokens": 0, "requests": requests, "concurrent": 0}
    assert [tokens(record) for record in gw.store.ledger] == [(0, 0)] * requests
    for status in set(failures):
        failed = gw.metric("tollway_upstream_failures_total", reason=f"status_{status}")
        assert failed == failures.count(status)
    gw.assert_nothing_is_held()


async def test_the_log_tells_every_try(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw = gateway(folder, a=[Answer((b"{}",), 503)], b=[replays(STREAM)])
    await gw.ask(STREAM_BODY)
    (line,) = caplog.records
    tries = line.tries  # type: ignore[attr-defined]
    assert [(each["replica"], each["outcome"]) for each in tries] == [("a", "status_503"), ("b", "ok")]
    assert all(each["seconds"] >= 0 for each in tries)


CAUSES: dict[str, tuple[Callable[[], Answer], list[str]]] = {
    # How a replica fails, and who is asked before it is told.
    **{
        f"status_{status}": (partial(Answer, (b"{}",), status), ["a", "b"]) for status in (401, 403, 404, 429, 500, 503)
    },
    "connect": (lambda: fails(ConnectFailed("Connection refused")), ["a", "b"]),
    "tls": (lambda: fails(TlsFailed("its certificate is not trusted: certificate has expired")), ["a", "b"]),
    "broken": (lambda: fails(UpstreamBroken()), ["a", "b"]),
    "too_large": (lambda: Answer((b"x" * 5_000,)), ["a"]),
    "unreadable": (lambda: Answer((told({"prompt_tokens": 17, "completion_tokens": 3})[1:],)), ["a"]),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("reason", CAUSES)
async def test_each_cause_is_told_of_each_replica_in_log_metric_and_answer(
    folder: Path, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    failure, asked = CAUSES[reason]
    gw = gateway(folder, a=[failure()], b=[failure()])
    client = await gw.ask(CHAT_BODY)
    (line,) = [record for record in caplog.records if record.name == "tollway.exchange"]
    tries = line.tries  # type: ignore[attr-defined]
    assert [(each["replica"], each["outcome"]) for each in tries] == [(name, reason) for name in asked]
    assert all(0 <= each["seconds"] < 10 for each in tries)
    for name in ("a", "b"):
        failed = gw.metric("tollway_upstream_failures_total", model="demo", replica=name, reason=reason)
        assert failed == (1 if name in asked else 0)
    assert gw.metric("tollway_upstream_failures_total") == len(asked)
    assert (client.status, code(client)) == (502, "upstream_error")
    assert f"({reason})" in client.json["error"]["message"]
    gw.assert_nothing_is_held()


# --- replicas that fail before the first frame


def error_frame(status: int) -> Answer:
    frame = json.dumps({"error": {"message": "engine's own words", "type": "x", "param": None, "code": status}})
    return Answer((f"data: {frame}\n\n".encode(), b"data: [DONE]\n\n"))


FAILS_FIRST: dict[str, Callable[[], Answer]] = {
    "no connection": lambda: fails(ConnectFailed()),
    "closed before the head": lambda: fails(UpstreamBroken()),
    "closed before the first frame": lambda: Answer((UpstreamBroken(),)),
    "closed within the first frame": lambda: Answer((b'data: {"id"', UpstreamBroken())),
    "ended before the first frame": lambda: Answer(()),
    "only a comment": lambda: Answer((b": keep-alive\n\n", UpstreamBroken())),
    "overload": lambda: replays("400-overload"),
    "overload in a frame": lambda: error_frame(503),
    "a dead engine": lambda: replays("413-crash"),
    "aborted at once": lambda: replays("410-abort-stream", until=0, then=transcript("410-abort-stream").chunks[-3:]),
}


@pytest.mark.parametrize("failure", FAILS_FIRST.values(), ids=FAILS_FIRST)
async def test_another_replica_takes_over(folder: Path, failure: Callable[[], Answer]) -> None:
    gw = gateway(folder, a=[failure()], b=[replays(STREAM)])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, client.events[-1]) == (200, b"[DONE]")
    assert [asked.replica for asked in gw.upstream.asked] == ["a", "b"]
    record = bill(gw)
    assert (tokens(record), record.outcome, record.replica, record.attempts) == (STREAM_USAGE, "ok", "b", 2)
    assert client.answer_headers["x-tollway-replica"] == "b"
    gw.assert_nothing_is_held()


@pytest.mark.parametrize("failure", FAILS_FIRST.values(), ids=FAILS_FIRST)
async def test_when_both_fail_it_is_a_502(folder: Path, failure: Callable[[], Answer]) -> None:
    gw = gateway(folder, a=[failure()], b=[failure()])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (502, "upstream_error")
    assert b"engine's own words" not in client.answer
    assert gw.used()["tokens"] == 0
    assert gw.metric("tollway_requests_total", outcome="upstream_error") == 1
    gw.assert_nothing_is_held()


async def test_a_replica_that_refuses_connections_is_out_until_it_is_healthy_again(folder: Path) -> None:
    gw = gateway(folder, a=[fails(ConnectFailed())], b=[replays(STREAM), replays(STREAM)])
    for _ in range(2):
        assert (await gw.ask(STREAM_BODY)).status == 200
    assert [asked.replica for asked in gw.upstream.asked] == ["a", "b", "b"]
    assert not gw.pools["demo"]["a"].healthy
    assert gw.metric("tollway_replica_up", replica="a") == 0


async def test_what_an_aborted_answer_cost_is_waste_and_no_charge(folder: Path) -> None:
    gw = gateway(folder, a=[replays("411-abort")], b=[replays("100-chat")])
    client = await gw.ask(CHAT_BODY)
    assert client.answer == transcript("100-chat").body
    assert (tokens(bill(gw)), bill(gw).wasted_tokens) == ((17, 6), 17 + 11)
    assert gw.metric("tollway_waste_tokens_total", reason="retried") == 28


@pytest.mark.parametrize(
    "second", [lambda: replays("411-abort"), lambda: fails(ConnectFailed())], ids=["abort", "down"]
)
async def test_waste_is_told_when_no_answer_came_of_it(folder: Path, second: Callable[[], Answer]) -> None:
    gw = gateway(folder, a=[replays("411-abort")], b=[second()])
    client = await gw.ask(CHAT_BODY)
    assert (client.status, code(client)) == (502, "upstream_error")
    record = bill(gw)
    assert (tokens(record), record.charge_picos, record.outcome) == ((0, 0), 0, "upstream_error")
    assert record.wasted_tokens == (56 if record.attempts == 2 and gw.pools["demo"]["b"].healthy else 28)
    assert gw.metric("tollway_waste_tokens_total", reason="failed") == record.wasted_tokens
    gw.assert_nothing_is_held()


# --- answers that are whole and cannot be read


def told(usage: object, text: str = "a b") -> bytes:
    """Return an answer in one piece that says this of what it used."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": usage}).encode()


def told_in_one_read(sum_: bytes) -> Answer:
    """Return a stream that ends before anything of it can go on, and says this at its end."""
    *frames, last, _ = transcript(STREAM).chunks
    return Answer((b"".join(frames) + last.replace(b'"prompt_tokens":17', b'"prompt_tokens":' + sum_),))


TOO_LARGE = b"data: " + b"x" * 5_000
UNREADABLE: dict[str, tuple[dict[str, object], Callable[[], Answer], int]] = {
    # What is asked, what is answered, and what is known to be used.
    "a token too many": (CHAT_BODY, lambda: Answer((told({"prompt_tokens": 17, "completion_tokens": 101}),)), 118),
    "beyond all bounds": (
        CHAT_BODY,
        lambda: Answer((told({"prompt_tokens": 10**15, "completion_tokens": 3}),)),
        4096 + 100,
    ),
    "no JSON": (CHAT_BODY, lambda: Answer((told({"prompt_tokens": 17, "completion_tokens": 3})[1:],)), 20),
    "no count": (CHAT_BODY, lambda: Answer((told({"prompt_tokens": -1, "completion_tokens": 3}),)), 0),
    "no usage": (CHAT_BODY, lambda: Answer((told("none"),)), 0),
    "too large": (CHAT_BODY, lambda: Answer((told({"prompt_tokens": 17}), b" " * 5_000)), 0),
    "a frame too large": (STREAM_BODY, lambda: Answer((TOO_LARGE,)), 0),
    "a stream's token too many": (STREAM_BODY | {"max_tokens": 1}, lambda: told_in_one_read(b"17"), 17 + 6),
    "a stream's sum": (STREAM_BODY, lambda: told_in_one_read(b"-7"), 17 + 6),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only small answers and frames be read."""
    monkeypatch.setattr(relay, "ANSWER_BYTES_MAX", 4_000)
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 4_000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("body", "answer", "known"), UNREADABLE.values(), ids=UNREADABLE)
async def test_work_that_is_done_is_not_done_again_and_is_accounted_for(
    folder: Path, body: dict[str, object], answer: Callable[[], Answer], known: int
) -> None:
    gw = gateway(folder, a=[answer()], b=[replays(STREAM)])
    client = await gw.ask(body)
    assert (client.status, code(client)) == (502, "upstream_error")
    assert [asked.replica for asked in gw.upstream.asked] == ["a"]
    record = bill(gw)
    assert (tokens(record), record.charge_picos, record.outcome) == ((0, 0), 0, "upstream_error")
    if known:
        assert (record.source, record.wasted_tokens) == (Source.ENGINE, known)
        assert gw.metric("tollway_waste_tokens_total", reason="unreadable") == known
        assert gw.used() == {"tokens": 0, "requests": 1, "concurrent": 0}
    else:
        # The prompt's bound, and what can have been generated since.
        assert record.source is Source.UNOBSERVED
        assert gw.metric("tollway_held_tokens_total") == record.wasted_tokens > 51
        assert gw.used() == {"tokens": record.wasted_tokens, "requests": 1, "concurrent": 0}
    gw.assert_nothing_is_held()


@pytest.mark.usefixtures("small")
async def test_a_refusal_too_large_to_read_is_no_answer(folder: Path) -> None:
    gw = gateway(folder, a=[Answer((b" " * 5_000,), 503)], b=[replays("100-chat")])
    assert (await gw.ask(CHAT_BODY)).answer == transcript("100-chat").body


# --- answers to another request


OWN, ANOTHERS = b"chatcmpl-" + OWN_ID, b"chatcmpl-01JC000000000000000000000A"


def named(recorded: str, own: bytes) -> Answer:
    """Return a recorded answer with this for its id."""
    return Answer(tuple(re.sub(rb'(?<="id":")[^"]+', own, chunk) for chunk in transcript(recorded).chunks))


@pytest.mark.parametrize(("body", "recorded"), [(STREAM_BODY, STREAM), (CHAT_BODY, "100-chat")], ids=["stream", "json"])
async def test_where_ids_are_echoed_nobody_gets_anothers_answer(
    folder: Path, body: dict[str, object], recorded: str
) -> None:
    a, b = [named(recorded, OWN), named(recorded, ANOTHERS), named(recorded, OWN)], [named(recorded, OWN)]
    gw = gateway(folder, a=a, b=b)
    clients = [await gw.ask(body) for _ in range(3)]
    assert [client.answer_headers["x-tollway-replica"] for client in clients] == ["a", "b", "a"]
    assert all(ANOTHERS not in client.answer and client.status == 200 for client in clients)
    assert [(tokens(record), record.wasted_tokens) for record in gw.store.ledger] == [(STREAM_USAGE, 0)] * 3
    assert gw.metric("tollway_upstream_failures_total", replica="a", reason="foreign") == 1
    gw.assert_nothing_is_held()


async def test_of_anothers_answer_nothing_is_believed_however_it_arrives(folder: Path) -> None:
    body = b"".join(named(STREAM, ANOTHERS).steps)  # type: ignore[arg-type]
    cut = Answer(tuple(body[at : at + 7] for at in range(0, len(body), 7)))
    gw = gateway(folder, a=[named(STREAM, OWN), cut], b=[named(STREAM, OWN)])
    await gw.ask(STREAM_BODY)
    client = await gw.ask(STREAM_BODY | {"max_tokens": 7})
    assert (client.answer_headers["x-tollway-replica"], client.events[-1]) == ("b", b"[DONE]")
    assert ANOTHERS not in client.answer


@pytest.mark.parametrize("own", [b"chatcmpl-1f2e", b"0"])
async def test_an_engine_with_ids_of_its_own_is_not_compared(folder: Path, own: bytes) -> None:
    gw = gateway(folder, a=[named(STREAM, own), named("100-chat", own + b"1")])
    assert [(await gw.ask(body)).status for body in (STREAM_BODY, CHAT_BODY)] == [200, 200]


# --- answers of which nobody says what they cost


def without_usage(*, sum_: bytes = b"") -> Answer:
    """Return a stream whose frames say nothing of any completion token, and its sum this."""
    *frames, last, done = transcript(STREAM).chunks
    silent = [re.sub(rb',"usage":{[^}]*}', b"", frame) for frame in frames]
    return Answer((*silent, *([last.replace(b'"completion_tokens":6', sum_)] if sum_ else []), done))


NO_TOKENS: dict[str, Any] = {"prompt_tokens": 17, "completion_tokens": 0}
UNCOUNTED: dict[str, tuple[ApiProtocol, dict[str, object], Callable[[], Answer]]] = {
    "an empty usage": (CHAT, CHAT_BODY, lambda: Answer((told({}),))),
    "none": (CHAT, CHAT_BODY, lambda: Answer((told(None),))),
    "zeros": (CHAT, CHAT_BODY, lambda: Answer((told({"prompt_tokens": 0, "completion_tokens": 0}),))),
    "zero beside text": (CHAT, CHAT_BODY, lambda: Answer((told(NO_TOKENS),))),
    "zero beside much text": (CHAT, CHAT_BODY, lambda: Answer((told(NO_TOKENS, text="a" * 20_000),))),
    "a stream's none": (CHAT, STREAM_BODY, without_usage),
    "a stream's zero": (CHAT, STREAM_BODY, lambda: without_usage(sum_=b'"completion_tokens":0')),
    "an embedding's": (
        EMBEDDINGS,
        {"model": "demo", "input": "a" * 60},
        lambda: Answer((b'{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":0}}',)),
    ),
}


@pytest.mark.parametrize(("protocol", "body", "answer"), UNCOUNTED.values(), ids=UNCOUNTED)
async def test_an_answer_that_nobody_counts_is_given_and_held(
    folder: Path, protocol: ApiProtocol, body: dict[str, object], answer: Callable[[], Answer]
) -> None:
    gw = gateway(folder, a=[answer()])
    client = await gw.ask(body, protocol)
    assert (client.status, client.complete, len(gw.upstream.asked)) == (200, True, 1)
    assert client.events[-1] == b"[DONE]" if "stream" in body else client.json
    record = bill(gw)
    assert (tokens(record), record.charge_picos) == ((0, 0), 0)
    assert (record.outcome, record.source) == ("ok", Source.UNOBSERVED)
    # The prompt's bound, and what can have been generated since.
    assert gw.used() == {"tokens": record.wasted_tokens, "requests": 1, "concurrent": 0}
    assert gw.metric("tollway_held_tokens_total") == record.wasted_tokens > 51
    assert gw.metric("tollway_waste_tokens_total", reason="unobserved") == record.wasted_tokens
    assert gw.metric("tollway_uncounted_answers_total", model="demo", replica="a") == 1
    gw.assert_nothing_is_held()


async def test_without_a_sum_a_whole_stream_is_billed_by_its_last_counts(folder: Path) -> None:
    *frames, _, done = transcript(STREAM).chunks
    gw = gateway(folder, a=[Answer((*frames, done))])
    assert (await gw.ask(STREAM_BODY)).events[-1] == b"[DONE]"
    record = bill(gw)
    assert (tokens(record), record.outcome, record.source) == (STREAM_USAGE, "ok", Source.CUT)
    assert gw.metric("tollway_uncounted_answers_total", replica="a") == 1
    assert gw.used()["tokens"] == sum(STREAM_USAGE)


async def test_a_stream_that_nobody_counts_is_held_also_where_it_breaks(folder: Path) -> None:
    gw = gateway(folder, a=[Answer((*without_usage().steps[:CUT], UpstreamBroken()))])
    assert in_band(await gw.ask(STREAM_BODY)) == "stream_truncated"
    assert (tokens(bill(gw)), bill(gw).source) == ((0, 0), Source.UNOBSERVED)
    assert gw.used()["tokens"] == bill(gw).wasted_tokens > 51


SCORED = b'{"id":"cmpl-1","choices":[{"index":0,"text":"a b","finish_reason":"length"}],"usage":{"prompt_tokens":2}}'


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_scored_needs_no_token_of_an_answer(folder: Path, *, stream: bool) -> None:
    head, tail = SCORED.split(b"}],")
    frames = (b"data: %b}]}\n\n" % head, b'data: {"id":"cmpl-1","choices":[],%b\n\n' % tail, b"data: [DONE]\n\n")
    gw = gateway(folder, a=[Answer(frames if stream else (SCORED,))])
    body = {"model": "demo", "prompt": "a b", "max_tokens": 0, "echo": True, "stream": stream}
    assert (await gw.ask(body, COMPLETIONS)).status == 200
    assert (tokens(bill(gw)), bill(gw).outcome, bill(gw).source) == ((2, 0), "ok", Source.ENGINE)
    assert gw.metric("tollway_uncounted_answers_total") == 0


async def test_with_one_attempt_nobody_else_is_asked(folder: Path) -> None:
    gw = gateway(folder, config=CONFIG + "attempts_max = 1\n", a=[fails(ConnectFailed())])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (502, "upstream_error")
    gw.assert_nothing_is_held()


# --- a head that goes out before the first frame


EARLY = CONFIG + "head_hold_s_max = 0\n"


def late(*steps: Step) -> Answer:
    """Return an answer that gives its head time to go out alone."""
    return Answer((Pause(0.01), *steps))


async def test_a_stream_that_waits_sends_its_head_and_tells_the_rest_in_a_comment(folder: Path) -> None:
    gw = gateway(folder, config=EARLY, a=[late(*transcript(STREAM).chunks)])
    client = await gw.ask(STREAM_BODY)
    assert client.status == 200
    assert client.answer_headers["content-type"].startswith("text/event-stream")
    assert client.answer_headers["x-accel-buffering"] == "no"
    assert client.answer_headers["cache-control"] == "no-cache"
    assert not {"x-tollway-replica", "x-tollway-queue-ms"} & client.answer_headers.keys()
    told = rb": waiting\n\n: x-tollway-replica: a\n: x-tollway-queue-ms: \d+\n\ndata: "
    assert re.match(told, client.answer)
    assert client.events[-1] == b"[DONE]"
    assert (tokens(bill(gw)), bill(gw).outcome) == (STREAM_USAGE, "ok")
    gw.assert_nothing_is_held()


async def test_another_replica_takes_over_though_the_head_is_out(folder: Path) -> None:
    gw = gateway(folder, config=EARLY, a=[late(UpstreamBroken())], b=[replays(STREAM)])
    client = await gw.ask(STREAM_BODY)
    assert b": x-tollway-replica: b\n" in client.answer
    assert client.events[-1] == b"[DONE]"
    assert bill(gw).attempts == 2
    gw.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: late(UpstreamBroken()), {"code": "upstream_error", "status": 502, "retry_after_s": None}),
        (
            lambda: late(*transcript("309-bad-logprobs-stream").chunks),
            {"status": 400, "param": "logprobs"},
        ),
    ],
    ids=["a replica's fault", "the engine's refusal"],
)
async def test_an_error_behind_an_early_head_tells_its_status_in_band(
    folder: Path, answer: Callable[[], Answer], told: dict[str, object]
) -> None:
    gw = gateway(folder, config=EARLY, a=[answer()], b=[answer()])
    client = await gw.ask(STREAM_BODY)
    assert client.status == 200
    (event,) = client.events
    error = json.loads(event)["error"]
    assert {name: error[name] for name in told} == told
    gw.assert_nothing_is_held()


async def test_a_client_that_asks_for_it_gets_a_real_status(folder: Path) -> None:
    gw = gateway(folder, config=EARLY, a=[late(UpstreamBroken())], b=[late(UpstreamBroken())])
    client = await gw.ask(STREAM_BODY, headers={"x-tollway-head": "hold"})
    assert (client.status, code(client)) == (502, "upstream_error")
    client = await gw.ask(STREAM_BODY, headers={"x-tollway-head": "early"})
    assert (client.status, code(client)) == (400, "invalid_request")


async def test_an_answer_in_one_piece_has_no_early_head(folder: Path) -> None:
    gw = gateway(folder, config=EARLY, a=[late(*transcript("100-chat").chunks)])
    client = await gw.ask(CHAT_BODY)
    assert client.answer == transcript("100-chat").body


async def test_comments_of_the_engine_go_on_once_the_head_is_out(folder: Path) -> None:
    gw = gateway(folder, config=EARLY, a=[late(b": keep-alive\n\n", *transcript(STREAM).chunks)])
    client = await gw.ask(STREAM_BODY)
    assert client.answer.startswith(b": waiting\n\n: keep-alive\n\n: x-tollway-replica: a\n")


# --- replicas that fail after the first frame


FAILS_LATER: dict[str, Callable[[], Answer]] = {
    "closed": lambda: replays(STREAM, until=CUT, then=[UpstreamBroken()]),
    "ended without DONE": lambda: replays(STREAM, until=CUT),
    "DONE without a sum": lambda: replays(STREAM, until=CUT, then=[b"data: [DONE]\n\n"]),
    "an error frame": lambda: replays(STREAM, until=CUT, then=transcript("412-crash-stream").chunks[-2:]),
    "a refusal in mid-stream": lambda: replays(STREAM, until=CUT, then=transcript("309-bad-logprobs-stream").chunks),
    "no JSON": lambda: replays(STREAM, until=CUT, then=[b'data: {"error": {\n\n']),
}


@pytest.mark.parametrize("failure", FAILS_LATER.values(), ids=FAILS_LATER)
async def test_a_broken_stream_ends_in_an_error_and_is_billed_as_far_as_it_came(
    folder: Path, failure: Callable[[], Answer]
) -> None:
    gw = gateway(folder, a=[failure()])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, client.complete) == (200, True)
    assert in_band(client) == "stream_truncated"
    assert b"[DONE]" not in client.answer
    assert b"EngineCore" not in client.answer
    assert len(client.events) == CUT + 1
    record = bill(gw)
    assert (tokens(record), record.outcome, record.source) == (CUT_USAGE, "stream_truncated", Source.CUT)
    assert gw.used()["tokens"] == sum(CUT_USAGE)
    gw.assert_nothing_is_held()


async def test_a_second_replica_that_breaks_is_billed_as_far_as_it_came(folder: Path) -> None:
    gw = gateway(folder, a=[fails(ConnectFailed())], b=[replays(STREAM, until=CUT, then=[UpstreamBroken()])])
    client = await gw.ask(STREAM_BODY)
    assert in_band(client) == "stream_truncated"
    record = bill(gw)
    assert (tokens(record), record.outcome, record.wasted_tokens) == (CUT_USAGE, "stream_truncated", 0)
    gw.assert_nothing_is_held()


async def test_an_abort_is_no_end(folder: Path) -> None:
    gw = gateway(folder, a=[replays("410-abort-stream")])
    client = await gw.ask(STREAM_BODY)
    assert in_band(client) == "stream_truncated"
    assert b'"abort"' not in client.answer
    assert (tokens(bill(gw)), bill(gw).outcome) == ((17, 9), "stream_truncated")
    gw.assert_nothing_is_held()


# --- clients that leave


async def test_a_client_that_leaves_mid_stream_pays_for_what_was_received(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM, until=CUT, then=[silence()])])
    client = await gw.ask(STREAM_BODY, leaves_after=CUT)
    assert not client.complete
    record = bill(gw)
    assert (tokens(record), record.outcome, record.source) == (CUT_USAGE, "client_closed", Source.CUT)
    assert gw.store.kept == [0]
    assert gw.used() == {"tokens": sum(CUT_USAGE), "requests": 1, "concurrent": 0}
    gw.assert_nothing_is_held()


async def test_a_client_that_leaves_gets_no_free_prefill_of_those_prompts_that_had_not_begun(folder: Path) -> None:
    name = "223-completion-stream-list-n2-continuous"
    recorded = transcript(name)
    body = {"model": "demo", "prompt": recorded.asked["prompt"], "n": 2, "max_tokens": 8, "stream": True}
    for cut, begun in ((1, 1), (len(recorded.chunks) - 3, len(recorded.asked["prompt"]))):
        gw = gateway(folder, a=[replays(name, until=cut, then=[silence()])])
        await gw.ask(body, COMPLETIONS, leaves_after=cut)
        record = bill(gw)
        whole = sum(len(prompt.encode()) for prompt in recorded.asked["prompt"])
        assert (record.outcome, record.source) == ("client_closed", Source.CUT)
        assert (gw.store.kept[0] >= whole - record.prompt_tokens > 0) == (begun == 1)
        assert record.wasted_tokens == gw.store.kept[0] == gw.used()["tokens"] - sum(tokens(record))


@pytest.mark.parametrize("body", [STREAM_BODY, CHAT_BODY], ids=["stream", "json"])
async def test_a_client_that_leaves_before_any_usage_gets_no_free_prefill(
    folder: Path, body: dict[str, object]
) -> None:
    gw = gateway(folder, a=[Answer((silence(),))])
    client = gw.client(body)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: gw.upstream.open)
    reserved = gw.used()["tokens"]
    client.left.set()
    await serving
    record = bill(gw)
    assert (tokens(record), record.outcome, record.source) == ((0, 0), "client_closed", Source.UNOBSERVED)
    # All of the prompt, and of the 100 tokens asked for no more than a replica could have made by then.
    assert reserved - 100 < record.wasted_tokens < reserved
    assert gw.store.kept == [record.wasted_tokens]
    assert gw.used() == {"tokens": record.wasted_tokens, "requests": 1, "concurrent": 0}
    assert gw.metric("tollway_waste_tokens_total", reason="unobserved") == record.wasted_tokens
    assert gw.metric("tollway_held_tokens_total", tenant="acme") == record.wasted_tokens
    assert client.messages == []
    assert gw.upstream.aborted == []
    gw.assert_nothing_is_held()


async def test_a_client_that_leaves_during_its_body_was_never_admitted(folder: Path) -> None:
    gw = gateway(folder)
    client = gw.client(parts=[])
    client.left.set()
    await gw.serve(client)
    assert (client.messages, gw.store.steps) == ([], [])
    assert gw.metric("tollway_requests_total", outcome="client_closed") == 1


async def test_a_client_that_reads_no_further_is_cut_and_billed(folder: Path) -> None:
    gw = gateway(folder, config=CONFIG + "write_s_max = 0.05\n", a=[replays(STREAM)])
    await gw.ask(STREAM_BODY, stalls_after=CUT + 1)
    assert (tokens(bill(gw)), bill(gw).outcome) == ((17, 6), "client_closed"), "what its replica said meanwhile"
    gw.assert_nothing_is_held()


async def test_a_client_that_hangs_up_instead_of_reading_pays_for_what_its_replica_said_meanwhile(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM)])
    client = gw.client(STREAM_BODY, stalls_after=CUT)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: len(client.messages) > CUT)
    client.left.set()
    await serving
    assert (tokens(bill(gw)), bill(gw).outcome) == ((17, 6), "client_closed")
    gw.assert_nothing_is_held()


async def test_a_client_that_does_not_take_the_end_was_served_all_the_same(folder: Path) -> None:
    gw = gateway(folder, a=[replays("100-chat")])
    await gw.serve(gw.client(CHAT_BODY, stalls_after=0), write_s_max=0.05)
    assert (tokens(bill(gw)), bill(gw).outcome) == ((17, 6), "ok")
    assert gw.metric("tollway_requests_total", outcome="ok") == 1
    gw.assert_nothing_is_held()


async def test_a_client_that_does_not_take_an_error_is_gone(folder: Path) -> None:
    gw = gateway(folder)
    client = gw.client(STREAM_BODY, headers={"authorization": "forged"}, stalls_after=0)
    await gw.serve(client, write_s_max=0.05)
    assert not client.complete
    assert gw.metric("tollway_requests_total", outcome="invalid_api_key") == 1


async def test_what_is_wrong_with_a_token_is_counted_and_has_a_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gw = gateway(folder)
    client = await gw.ask(STREAM_BODY, headers={"authorization": "Bearer a.b.c"})
    (line,) = [record for record in caplog.records if record.message == "token_refused"]
    told = (line.reason, line.request_id)  # type: ignore[attr-defined]
    assert told == ("token_malformed", client.answer_headers["x-request-id"])
    assert gw.metric("tollway_refusals_total", limit="", reason="token_malformed") == 1


# --- replicas that say nothing


async def test_a_silent_replica_is_given_up_and_nobody_else_is_asked(folder: Path) -> None:
    gw = gateway(folder, config=CONFIG + "ttft_s_max = 0.05\n", a=[Answer((silence(),))])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (504, "upstream_timeout")
    assert [asked.replica for asked in gw.upstream.asked] == ["a"]
    record = bill(gw)
    assert (tokens(record), record.outcome, record.source) == ((0, 0), "upstream_timeout", Source.UNOBSERVED)
    assert gw.used() == {"tokens": record.wasted_tokens, "requests": 1, "concurrent": 0}
    # The prompt's bound, and at least 50 ms at a thousand tokens a second.
    assert record.wasted_tokens >= 51 + 50
    gw.assert_nothing_is_held()


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        (lambda: replays("316-bad-temperature"), True),
        (lambda: replays("400-overload"), True),
        (lambda: replays(STREAM, until=CUT, then=[UpstreamBroken()]), False),
        (lambda: replays(STREAM), False),
    ],
    ids=["refused", "overload", "cut", "whole"],
)
async def test_a_key_of_the_clients_own_is_free_again_if_it_got_and_paid_nothing(
    folder: Path, answer: Callable[[], Answer], *, free: bool
) -> None:
    gw = gateway(folder, a=[answer(), replays(STREAM)], b=[answer(), replays(STREAM)])
    own = {"idempotency-key": "order 7"}
    await gw.ask(STREAM_BODY, headers=own)
    again = await gw.ask(STREAM_BODY, headers=own)
    assert again.status == (200 if free else 409)


async def test_a_clients_own_name_of_its_request_is_in_the_log_and_the_ledger(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw = gateway(folder, a=[replays(STREAM)])
    await gw.ask(STREAM_BODY, headers={"x-client-request-id": "job-7/row 3"})
    assert [record.client_request_id for record in (bill(gw), *logged(caplog))] == ["job-7/row 3"] * 2
    assert (await gw.ask(STREAM_BODY, headers={"x-client-request-id": "a\tb"})).status == 400


async def test_a_stream_that_stalls_is_cut_and_billed(folder: Path) -> None:
    gw = gateway(folder, config=CONFIG + "idle_s_max = 0.05\n", a=[replays(STREAM, until=CUT, then=[silence()])])
    client = await gw.ask(STREAM_BODY)
    assert in_band(client) == "stream_truncated"
    assert (tokens(bill(gw)), bill(gw).outcome) == (CUT_USAGE, "stream_truncated")
    gw.assert_nothing_is_held()


# --- a gateway that stops


async def cancelled_when(gw: Gateway, client: PlayedClient, ready: Callable[[], object]) -> None:
    """Serve the client and cancel it once `ready()`."""
    serving = asyncio.create_task(gw.serve(client))
    await until(ready)
    serving.cancel()
    for event in gw.store.held.values():
        await asyncio.sleep(0)
        event.set()
    await serving


async def test_a_shutdown_settles_what_was_received(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM, until=CUT, then=[silence()])])
    client = gw.client(STREAM_BODY)
    await cancelled_when(gw, client, lambda: len(client.events) == CUT)
    assert (tokens(bill(gw)), bill(gw).outcome, bill(gw).source) == (CUT_USAGE, "shutdown", Source.CUT)
    assert in_band(client) == "stream_truncated"
    gw.assert_nothing_is_held()


async def test_a_shutdown_while_reserving_gives_all_of_it_back(folder: Path) -> None:
    gw = gateway(folder)
    gw.store.held["reserve"] = asyncio.Event()
    client = gw.client(STREAM_BODY)
    await cancelled_when(gw, client, lambda: gw.store.pending)
    assert (client.status, client.answer_headers["retry-after"]) == (503, "1")
    assert gw.used() == {"tokens": 0, "requests": 0, "concurrent": 0}
    gw.assert_nothing_is_held()


async def test_a_shutdown_while_settling_lets_the_settle_end(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM)])
    gw.store.held["settle"] = asyncio.Event()
    await cancelled_when(gw, gw.client(STREAM_BODY), lambda: gw.store.ledger)
    assert (tokens(bill(gw)), bill(gw).outcome) == (STREAM_USAGE, "ok")
    assert gw.metric("tollway_requests_total", outcome="ok") == 1
    gw.assert_nothing_is_held()


# --- a store that is away


async def test_without_a_store_nobody_is_admitted(folder: Path) -> None:
    gw = gateway(folder)
    gw.store.away = {"reserve"}
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client), client.answer_headers["retry-after"]) == (503, "ledger_unavailable", "1")
    # The reserve may yet arrive: it is released all the same, and the client does not wait for that.
    assert (gw.store.steps, gw.metric("tollway_reservations_open")) == ([], 1)
    await gw.outbox.send_owed()
    assert gw.store.steps == ["release"]
    assert gw.metric("tollway_requests_total", outcome="ledger_unavailable") == 1
    gw.assert_nothing_is_held()


@pytest.mark.parametrize("taken", [False, True], ids=["lost", "taken without an answer"])
async def test_a_settle_that_finds_no_store_breaks_no_answer_and_is_billed_once(
    folder: Path, caplog: pytest.LogCaptureFixture, *, taken: bool
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw = gateway(folder, a=[replays(STREAM)])
    if taken:
        gw.store.unanswered = {"settle"}
    else:
        gw.store.away = {"settle"}
    client = await gw.ask(STREAM_BODY)
    assert client.events[-1] == b"[DONE]"
    assert gw.metric("tollway_settle_failures_total") == 1
    (told,) = logged(caplog)
    assert tokens(told) == STREAM_USAGE
    assert gw.store.pending == ([] if taken else [told.request_id])
    assert gw.metric("tollway_reservations_open") == 1
    assert gw.metric("tollway_requests_total") == 0
    (failed,) = [record for record in caplog.records if record.message == "settle_failed"]
    assert failed.request_id == told.request_id  # type: ignore[attr-defined]
    gw.store.away = gw.store.unanswered = set()
    await gw.replay.send_owed()
    await gw.replay.send_owed()
    assert bill(gw) == told
    assert gw.metric("tollway_requests_total") == gw.metric("tollway_requests_total", outcome="ok") == 1
    assert gw.metric("tollway_tokens_total", kind="completion") == STREAM_USAGE[1]
    gw.assert_nothing_is_held()


async def test_a_release_that_finds_no_store_is_counted(folder: Path) -> None:
    gw = gateway(folder, a=[replays("400-overload")], b=[replays("400-overload")])
    gw.store.away = {"release"}
    assert (await gw.ask(CHAT_BODY)).status == 502
    assert gw.metric("tollway_settle_failures_total") == 1
    assert gw.metric("tollway_reservations_open") == 1
    gw.store.away = set()
    await gw.outbox.send_owed()
    gw.assert_nothing_is_held()


# --- the gateway's own disk is full


async def test_while_the_log_cannot_be_written_nobody_is_admitted(folder: Path) -> None:
    gw = gateway(folder)
    gw.journal.full = True
    client = await gw.ask(CHAT_BODY)
    assert (client.status, code(client)) == (503, "ledger_unavailable")
    assert "log" in client.json["error"]["message"]
    assert gw.store.steps == []


@pytest.mark.parametrize("redis_takes_it", [True, False])
async def test_an_answer_ends_well_only_if_its_end_is_somewhere(folder: Path, *, redis_takes_it: bool) -> None:
    full = asyncio.Event()
    gw = gateway(folder, a=[replays(STREAM, until=CUT, then=[full, *transcript(STREAM).chunks[CUT:]])])
    if not redis_takes_it:
        gw.store.away = {"settle"}
    client = gw.client(STREAM_BODY)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: client.answer)
    gw.journal.full = True
    full.set()
    await serving
    if redis_takes_it:
        assert client.events[-1] == b"[DONE]"
    else:
        assert in_band(client) == "stream_truncated"
        gw.store.away = set()
        await gw.outbox.send_owed()
    assert tokens(bill(gw)) == STREAM_USAGE
    gw.assert_nothing_is_held()


# --- one record each, whatever happens


ENDS: dict[str, tuple[Callable[[], Answer], ...]] = {
    "ok": (lambda: replays(STREAM),),
    **{f"first: {name}": (failure, failure) for name, failure in FAILS_FIRST.items()},
    **{f"later: {name}": (failure,) for name, failure in FAILS_LATER.items()},
    "refused": (lambda: replays("303-prompt-too-long"),),
}
"""What each replica that is asked does."""


@pytest.mark.parametrize("replicas", ENDS.values(), ids=ENDS)
async def test_an_exchange_is_told_once_and_as_it_is_billed(
    folder: Path, caplog: pytest.LogCaptureFixture, replicas: tuple[Callable[[], Answer], ...]
) -> None:
    caplog.set_level(logging.INFO, "tollway.exchange")
    gw = gateway(folder, a=[replicas[0]()], b=[answer() for answer in replicas[1:]])
    await gw.ask(STREAM_BODY)
    (told,) = logged(caplog)
    assert gw.store.ledger in ([], [told])
    assert gw.metric("tollway_requests_total") == gw.metric("tollway_requests_total", outcome=told.outcome) == 1
    prompt, completion = tokens(told) if gw.store.ledger else (0, 0)
    assert gw.metric("tollway_tokens_total", kind="prompt") == prompt
    assert gw.metric("tollway_tokens_total", kind="completion") == completion
    assert gw.used()["tokens"] == prompt + completion
    gw.assert_nothing_is_held()


async def test_a_bug_is_told_and_holds_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gw = gateway(folder, a=[])
    client = await gw.ask(STREAM_BODY)
    assert (client.status, code(client)) == (500, "internal_error")
    (told,) = logged(caplog)
    assert told.outcome == "internal_error"
    assert client.answer_headers["x-request-id"] == told.request_id
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.exc_info is not None
    assert line.request_id == told.request_id  # type: ignore[attr-defined]
    gw.assert_nothing_is_held()


# --- what is known early


async def test_what_the_prompt_does_not_need_is_given_back_while_the_answer_runs(folder: Path) -> None:
    gw = gateway(folder, a=[replays(STREAM, until=CUT, then=[silence()])])
    client = gw.client(STREAM_BODY)
    serving = asyncio.create_task(gw.serve(client))
    await until(lambda: len(client.events) == CUT)
    reserved = gw.used()["tokens"]
    for _ in range(2):
        await gw.progress.beat()
        assert gw.used()["tokens"] == STREAM_USAGE[0] + int(str(STREAM_BODY["max_tokens"])) < reserved
    client.left.set()
    await serving
    assert gw.used()["tokens"] == sum(CUT_USAGE)
    gw.assert_nothing_is_held()
