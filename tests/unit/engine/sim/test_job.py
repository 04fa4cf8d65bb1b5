"""Requests become jobs, or are refused, as vLLM does it; the words are checked against the transcripts elsewhere."""

from typing import Any

import pytest

from engine.sim.body import parse_body
from engine.sim.config import SimConfig
from engine.sim.job import SimJob, chat_job, completion_job, prompts_of
from engine.sim.rejection import Rejection

CONFIG = SimConfig(max_model_len=100)


def chat(**extra: Any) -> SimJob:
    return chat_job({"model": "demo", "messages": [{"role": "user", "content": "hello"}]} | extra, CONFIG)


def completion(**extra: Any) -> SimJob:
    return completion_job({"model": "demo", "prompt": "hello"} | extra, CONFIG)


def test_without_a_limit_chat_fills_the_context_and_completions_take_sixteen() -> None:
    job = chat()
    assert job.max_tokens == (100 - len(job.prompts[0]),)
    assert completion().max_tokens == (16,)


def test_max_completion_tokens_wins() -> None:
    assert chat(max_tokens=50, max_completion_tokens=7).max_tokens == (7,)


def test_prompt_and_limit_are_clamped_to_the_context() -> None:
    assert completion(prompt=list(range(90)), max_tokens=50).max_tokens == (10,)


def test_a_prompt_as_long_as_the_context_is_too_long() -> None:
    assert completion(prompt=list(range(99)), max_tokens=5).max_tokens == (1,)
    with pytest.raises(Rejection, match="maximum context length is 100"):
        completion(prompt=list(range(100)))


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [("hello", [1]), ([7, 8, 9], [3]), (["hello", "hello world"], [1, 2]), ([[1, 2], [3]], [2, 1])],
)
def test_prompts_come_in_four_forms(prompt: Any, lengths: list[int]) -> None:
    assert [len(one) for one in prompts_of(prompt)] == lengths


def test_continuous_usage_needs_usage() -> None:
    alone = chat(stream=True, stream_options={"continuous_usage_stats": True})
    assert not alone.continuous_usage
    both = chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert both.include_usage
    assert both.continuous_usage


def test_a_stop_is_a_string_or_some() -> None:
    assert (chat(stop="a").stop, chat(stop=["a", "b"]).stop, chat().stop) == (("a",), ("a", "b"), ())


def test_logprobs_count_alternatives() -> None:
    assert (chat().logprobs, chat(logprobs=True).logprobs, chat(logprobs=True, top_logprobs=3).logprobs) == (None, 0, 3)
    assert completion(logprobs=2).logprobs == 2


def test_too_many_logprobs_are_refused_in_band_under_stream_only() -> None:
    for stream in (True, False):
        with pytest.raises(Rejection) as refused:
            completion(logprobs=21, stream=stream)
        assert refused.value.in_band is stream


def test_parts_are_text_only() -> None:
    parts = [{"type": "text", "text": "hello"}]
    assert chat(messages=[{"role": "user", "content": parts}]).prompts == chat().prompts
    with pytest.raises(Rejection, match="image"):
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}])


@pytest.mark.parametrize("raw", [b'{"a":', b"\xff", b"", b"[]", b"null"])
def test_what_is_no_json_object_is_a_400(raw: bytes) -> None:
    with pytest.raises(Rejection) as refused:
        parse_body(raw, "application/json; charset=utf-8")
    assert refused.value.status == 400
