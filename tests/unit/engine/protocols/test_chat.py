"""What passes of a conversation, what is counted of it, and what the engine reads in the end."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.faults import MalformedRequest
from engine.protocols.chat import CHAT
from tests.transcripts import transcript
from tests.unit.engine.protocols.parsing import MAXIMA, MINIMAL, request


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 1, "max_completion_tokens": 10_000}, 10_000),
        ({"max_tokens": 10_000, "max_completion_tokens": 1}, 1),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_max_completion_tokens_wins_where_vllm_lets_it_win(fields: dict[str, Any], asked: int | None) -> None:
    assert request(CHAT, **fields).max_completion == asked


def test_each_choice_counts() -> None:
    assert request(CHAT, n=4).choices == 4
    assert request(CHAT, n=None).choices == 1


def test_one_id_covers_all_choices() -> None:
    # Seen on vLLM 0.32.
    assert CHAT.abort_ids("R", 1) == ["chatcmpl-R"]


def test_an_engine_names_its_answer_by_the_requests_id() -> None:
    answer = json.loads(transcript("104-chat-request-id").body)
    assert answer["id"] == CHAT.id_prefix + "r"


texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
tools = st.fixed_dictionaries({"type": st.just("function"), "function": st.dictionaries(texts, values, max_size=3)})


@given(
    content=texts, tool_list=st.lists(tools, max_size=3), documents=st.lists(st.dictionaries(texts, texts), max_size=2)
)
def test_the_bound_holds_for_all_that_a_template_may_write(
    content: str, tool_list: list[Any], documents: list[Any]
) -> None:
    asked = CHAT.parse(
        json.dumps(
            MINIMAL["chat"]
            | {"messages": [{"role": "user", "content": content}], "tools": tool_list, "documents": documents}
        ).encode(),
        replace(MAXIMA, json_depth_max=64),
    )
    # Templates write tools by `tojson`, mostly indented by four.
    written = [content] + [json.dumps(part, indent=4, ensure_ascii=False) for part in (tool_list, documents) if part]
    assert asked.prompt.text_bytes >= sum(len(text.encode()) for text in written)


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 7}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages"),
    ({"stream": "maybe"}, "stream"),
    ({"stream": 2}, "stream"),
    ({"stream_options": {}}, "stream_options"),
    ({"stream": False, "stream_options": {}}, "stream_options"),
    ({"stream": "off", "stream_options": {}}, "stream_options"),
    ({"stream": True, "stream_options": []}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 2}}, "include_usage"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": False}, "n"),
    ({"n": "one"}, "n"),
    ({"n": "9"}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2**31 + 1}, "max_tokens"),
    ({"max_tokens": 2**70}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_completion_tokens": "many"}, "max_completion_tokens"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 1.5}, "min_tokens"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": "five"}, "top_logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": "a" * 65}, "stop"),
    ({"stop": ["\u20ac" * 22]}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop": {"a": 1}}, "stop"),
    ({"tools": [{}] * 5}, "tools"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"x": "a" * 4096}]}, "tools"),
    ({"response_format": {"x": "a" * 4096}}, "response_format"),
    ({"chat_template_kwargs": {"x": "a" * 4096}}, "chat_template_kwargs"),
    ({"logit_bias": {str(n): 1 for n in range(9)}}, "logit_bias"),
    ({"logit_bias": []}, "logit_bias"),
    ({"stop_token_ids": [1] * 9}, "stop_token_ids"),
    ({"stop_token_ids": 1}, "stop_token_ids"),
    ({"bad_words": ["a"] * 9}, "bad_words"),
    ({"allowed_token_ids": [1] * 9}, "allowed_token_ids"),
]


@pytest.mark.parametrize(("fields", "param"), MALFORMED)
def test_a_malformed_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        request(CHAT, **fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
