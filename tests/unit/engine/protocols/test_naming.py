"""The model's name as clients know it, in answers of an engine that knows it by another; all else as it came."""

import orjson
import pytest

from engine.protocols.naming import named_answer, named_frames
from tests.transcripts import transcript

OTHER = 'a "name" \\ \u00e9 with \\1 in it'


def frames(name: str) -> bytes:
    return b"".join(transcript(name).chunks)


@pytest.mark.parametrize(
    "name",
    ["120-chat-stream", "122-chat-stream-continuous", "125-chat-stream-logprobs", "222-completion-stream-continuous"],
)
@pytest.mark.parametrize("shown", ["demo-model", OTHER])
def test_every_frame_of_vllms_is_named_and_nothing_else_changed(name: str, shown: str) -> None:
    came = frames(name)
    gone = named_frames(came, shown)
    served = orjson.dumps(orjson.loads(came.split(b"\n\n")[0].removeprefix(b"data: "))["model"])
    told = [orjson.loads(data.removeprefix(b"data: "))["model"] for data in gone.split(b"\n\n")[:-2]]
    assert set(told) == {shown}
    assert gone == came.replace(b'"model":' + served, b'"model":' + orjson.dumps(shown))
    assert gone.endswith(b"data: [DONE]\n\n")


def test_only_the_first_in_a_frame_is_the_models() -> None:
    came = (
        b'data: {"model" : "x\\"y", "choices": [{"model":"x", "text": "\\"model\\":\\"x\\""}]}\r\n\r\n: "model":"x"\n\n'
    )
    gone = b'data: {"model" : "m", "choices": [{"model":"x", "text": "\\"model\\":\\"x\\""}]}\r\n\r\n: "model":"x"\n\n'
    assert named_frames(came, "m") == gone


@pytest.mark.parametrize("cut", [1, 10, 60, 200])
@pytest.mark.parametrize("name", ["100-chat", "200-completion"])
def test_a_whole_answer_is_named_however_it_came(name: str, cut: int) -> None:
    body = b"".join(transcript(name).chunks)
    told = orjson.loads(b"".join(named_answer([body[:cut], body[cut:]], OTHER)))
    assert told.pop("model") == OTHER
    assert told == {key: value for key, value in orjson.loads(body).items() if key != "model"}


def test_of_a_large_answer_the_rest_stays_in_its_parts() -> None:
    rest = [b"x" * 60_000, b'"model":"x"}']
    assert named_answer([b'{"model":"x","data":"', b"y" * 20_000, *rest], "m")[1:] == rest


def test_a_model_at_the_end_is_found_there() -> None:
    parts = [b'{"data":"', b"x" * 60_000, b'","model":"', b'x"}']
    assert b"".join(named_answer(parts, "m")).endswith(b'","model":"m"}')


def test_an_answer_without_a_model_is_left_alone() -> None:
    assert named_answer([b'{"data":"\\"model\\":\\"x\\""}'], "m") == [b'{"data":"\\"model\\":\\"x\\""}']
