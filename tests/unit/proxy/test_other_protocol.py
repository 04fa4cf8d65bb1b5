"""
A protocol unlike OpenAI's goes through the same stages: named events, usage at the end, another envelope.

It is a small cousin of Anthropic's Messages, with all that such a one may do otherwise.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.faults import MalformedRequest, UpstreamBroken
from engine.protocols.base import Answer, EngineFailure, FailureRow, Frame, FrameKind, ParsedRequest, StreamMachine
from engine.protocols.bounds import Maxima
from engine.protocols.fields import read_fields
from engine.protocols.prompt import Prompt
from engine.protocols.usage import Usage
from engine.wire.sse import FrameSplitter, data_of
from proxy.billing.record import ExchangeRecord, Source
from tests.unit.proxy.gateway import Gateway, gateway
from tests.unit.proxy.played_upstream import Answer as Played


def event(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name} | fields))


def usage_of(told: dict[str, int]) -> Usage:
    return Usage(told["input_tokens"] + told["cache_read_tokens"], told["cache_read_tokens"], told["output_tokens"])


class Told:
    """The machine of its streams: it counts a token for each delta until the engine tells."""

    def __init__(self) -> None:
        self._splitter = FrameSplitter()
        self._deltas = 0
        self._sum: Usage | None = None
        self.failure: EngineFailure | None = None
        self.complete = False
        self.uncounted = False
        self.prompts_begun = 1
        self.fingerprint = b""

    @property
    def usage(self) -> Usage | None:
        return self._sum or (Usage(completion_tokens=self._deltas) if self._deltas else None)

    proven = usage

    def feed(self, data: bytes) -> list[Frame]:
        return [self._read(frame, orjson.loads(data_of(frame) or b"")) for frame in self._splitter.feed(data)]

    def _read(self, frame: bytes, told: dict[str, Any]) -> Frame:
        match told["type"]:
            case "error":
                self.failure = EngineFailure(told["status"], orjson.dumps(told))
                return Frame(FrameKind.ERROR, b"")
            case "message_stop":
                self.complete = self._sum is not None
                return Frame(FrameKind.DONE, frame)
            case "message_delta":
                self._sum = usage_of(told["usage"])
                return Frame(FrameKind.USAGE, frame)
        self._deltas += 1
        return Frame(FrameKind.CONTENT, frame)


class Messages:
    """It goes by the name of a protocol that the played model serves."""

    name = "chat"
    path = "/v1/messages"
    prompt_field = "messages"
    generates = True
    default_completion: int | None = None
    fields = frozenset({"model", "messages", "stream"})
    withheld: frozenset[str] = frozenset()
    id_prefix = ""

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        fields, model = read_fields(body, maxima)
        if not isinstance(fields.get("messages"), str):
            raise MalformedRequest("`messages` must be text.", "messages")
        return ParsedRequest(
            protocol=self, model=model, prompt=Prompt(1, 5), fields=fields, stream=fields["stream"], max_completion=50
        )

    def check_answer(
        self, request: ParsedRequest, *, max_completion: int, context_tokens: int, extra_fields: Collection[str]
    ) -> int:
        return 0

    def render(
        self, request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
    ) -> bytes:
        return orjson.dumps({"model": model, "max_tokens": max_completion, "cache_salt": cache_salt})

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        return [request_id]

    def answers(self, request_id: str, begin: bytes) -> bool | None:
        return None

    def stream(self, request: ParsedRequest) -> StreamMachine | None:
        return Told() if request.stream else None

    def read_answer(self, request: ParsedRequest, parts: Sequence[bytes]) -> Answer:
        try:
            return Answer(usage_of(orjson.loads(b"".join(parts))["usage"]), aborted=False)
        except (ValueError, KeyError) as error:
            raise UpstreamBroken from error

    def error_body(self, error: FailureRow) -> bytes:
        kind = {400: "invalid_request_error", 502: "api_error"}[error.status]
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": error.message}})

    def error_frame(self, error: FailureRow, *, early: bool) -> bytes:
        del early
        return b"event: error\ndata: " + self.error_body(error) + b"\n\n"

    def refusal_frame(self, status: int, body: bytes) -> bytes:
        del status
        return b"event: error\ndata: " + body + b"\n\n"


MESSAGES = Messages()
BODY = {"model": "demo", "messages": "hello", "stream": True}
USAGE = {"input_tokens": 3, "cache_read_tokens": 2, "output_tokens": 2}
DELTAS = (event("delta", text="a"), event("delta", text="b"))
END = (event("message_delta", usage=USAGE), event("message_stop"))


async def asked(folder: Path, *steps: bytes, body: dict[str, Any]) -> tuple[Gateway, bytes, ExchangeRecord]:
    gw = gateway(folder, a=[Played(steps)])
    client = await gw.ask(body, MESSAGES)
    assert client.complete
    (record,) = gw.store.ledger
    gw.assert_nothing_is_held()
    return gw, client.answer, record


def tokens(record: ExchangeRecord) -> tuple[int, int, int]:
    return record.prompt_tokens, record.cached_tokens, record.completion_tokens


async def test_named_events_go_on_as_they_came_and_the_sum_at_their_end_is_billed(folder: Path) -> None:
    gw, answer, record = await asked(folder, *DELTAS, *END, body=BODY)
    assert answer == b"".join((*DELTAS, *END))
    assert (tokens(record), record.outcome, record.source) == ((5, 2, 2), "ok", Source.ENGINE)
    assert gw.upstream.asked[0].path == "/v1/messages"


async def test_an_answer_in_one_piece(folder: Path) -> None:
    whole = orjson.dumps({"content": "ab", "usage": USAGE})
    _, answer, record = await asked(folder, whole, body=BODY | {"stream": False})
    assert (answer, tokens(record), record.outcome) == (whole, (5, 2, 2), "ok")


async def test_a_stream_that_breaks_is_billed_by_its_deltas_and_told_in_its_own_frame(folder: Path) -> None:
    _, answer, record = await asked(folder, *DELTAS, END[1], body=BODY)
    assert answer.startswith(b"".join(DELTAS) + b"event: error\ndata: ")
    assert (tokens(record), record.outcome, record.source) == ((0, 0, 2), "stream_truncated", Source.CUT)


async def test_the_engines_own_refusal_in_a_frame_becomes_the_answer(folder: Path) -> None:
    gw = gateway(folder, a=[Played((event("error", status=400, message="Too long."),))])
    client = await gw.ask(BODY, MESSAGES)
    assert (client.status, client.json["message"]) == (400, "Too long.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def test_a_refusal_reads_as_its_clients_expect(folder: Path) -> None:
    client = await gateway(folder).ask(BODY | {"messages": 7}, MESSAGES)
    assert client.status == 400
    assert client.json == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "`messages` must be text."},
    }
