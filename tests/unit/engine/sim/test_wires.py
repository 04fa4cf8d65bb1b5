"""What the transcripts do not show of the two wires: sums over choices, cached tokens of prompt lists, offsets."""

from typing import Any

import orjson

from engine.sim.chat_wire import ChatWire
from engine.sim.completion_wire import CompletionWire
from engine.sim.config import SimConfig
from engine.sim.job import chat_job, completion_job
from engine.sim.sequence import Limits, Sequence
from engine.sim.tokens import Text, token
from engine.sim.wire import AnswerHeader, top_logprobs, total_usage

CONFIG = SimConfig()


def sequences(*prompts: tuple[int, ...], n: int = 1) -> list[Sequence]:
    """Return finished sequences of two tokens each; prompt i had 16 * i tokens cached."""
    made: list[Sequence] = []
    for number, prompt in enumerate(prompts):
        for choice in range(n):
            one = Sequence(len(made), prompt, Text(0, prompt, choice, 9), Limits(2, ignore_eos=True))
            one.cached_tokens = 16 * number
            one.advance(), one.advance()
            made.append(one)
    return made


def completion_wire(**extra: Any) -> CompletionWire:
    return CompletionWire(AnswerHeader("cmpl-1", 0, "demo", completion_job({"prompt": "x", **extra}, CONFIG), 16))


def parse(frame: bytes) -> Any:
    return orjson.loads(frame.removeprefix(b"data: "))


def test_each_prompt_counts_once_and_each_choice_counts() -> None:
    usage = total_usage(sequences((1, 2, 3), (4,), n=2), 2)
    assert usage == {"prompt_tokens": 4, "total_tokens": 12, "completion_tokens": 8}


def test_a_prompt_list_reports_one_prompts_cached_tokens() -> None:
    wire, both = completion_wire(), sequences((1,), (2,))
    assert orjson.loads(wire.body(both))["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
    assert parse(wire.usage_frame(both))["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_streamed_offsets_are_those_of_the_whole_answer() -> None:
    wire = completion_wire(logprobs=1, stream=True)
    one = Sequence(0, (1,), Text(0, (1,), 0, 9), Limits(5, ignore_eos=True))
    streamed = []
    while one.finish is None:
        streamed += parse(wire.frame(one.advance()))["choices"][0]["logprobs"]["text_offset"]
    assert streamed == orjson.loads(wire.body([one]))["choices"][0]["logprobs"]["text_offset"]


def test_chat_tells_what_it_put_into_the_cache() -> None:
    job = chat_job({"messages": [{"role": "user", "content": "x"}]}, CONFIG)
    one = sequences(tuple(range(50)))[0]
    one.cached_tokens = 16
    usage = orjson.loads(ChatWire(AnswerHeader("chatcmpl-1", 0, "demo", job, 16)).body([one]))["usage"]
    assert usage["prompt_tokens_details"] == {
        "cached_tokens": 16,
        "created_cache_tokens": 32,
        "multimodal_tokens": None,
    }


def test_alternatives_are_as_many_as_asked_and_fall() -> None:
    named = top_logprobs(token(" the"), 20)
    assert len({text for text, _ in named}) == 20
    assert named[0][0] == " the"
    assert [value for _, value in named] == sorted((value for _, value in named), reverse=True)
