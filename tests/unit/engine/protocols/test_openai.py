"""What passes of a request's body, what is counted of it, and what the engine reads in the end."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.faults import MalformedRequest
from engine.protocols.bounds import Maxima
from engine.protocols.openai import CHAT, COMPLETIONS, EMBEDDINGS, ENDPOINTS, Endpoint, ParsedRequest, parse, render

MAXIMA = Maxima(
    json_depth_max=10,
    prompts_max=4,
    n_max=8,
    logprobs_max=20,
    stop_max=4,
    stop_bytes_max=64,
    tools_max=4,
    schema_bytes_max=4096,
    entries_max=8,
)
MINIMAL: dict[str, dict[str, Any]] = {
    "chat": {"model": "demo", "messages": [{"role": "user", "content": "hi"}]},
    "completions": {"model": "demo", "prompt": "hi"},
    "embeddings": {"model": "demo", "input": "hi"},
}
STEERING = {
    "priority": -1,
    "cache_salt": "another tenant's",
    "request_id": "r",
    "session_id": "s",
    "kv_transfer_params": {"do_remote_prefill": True},
    "ec_transfer_params": {},
    "vllm_xargs": {},
    "stream_interval": 100,
    "truncate_prompt_tokens": 1,
    "prompt_logprobs": 1,
    "return_token_ids": True,
    "use_beam_search": True,
    "best_of": 100,
    "user": "somebody",
    "metadata": {},
}
"""Fields by which a tenant would steer the engine past the gateway, or that the engine need not know."""


def request(endpoint: Endpoint, **fields: Any) -> ParsedRequest:
    """Parse a minimal body with these fields besides or instead."""
    body = json.dumps(MINIMAL[endpoint.name] | fields).encode()
    return parse(endpoint, body, MAXIMA)


def rendered(
    endpoint: Endpoint, *, max_completion: int = 100, extra_fields: frozenset[str] = frozenset(), **fields: Any
) -> dict[str, Any]:
    """Return the engine's body for a minimal request with these fields."""
    body, _ = render(
        request(endpoint, **fields),
        model="engine-name",
        max_completion=max_completion,
        cache_salt="salt",
        extra_fields=extra_fields,
    )
    return dict(json.loads(body))


endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)


@endpoints
@pytest.mark.parametrize("field", STEERING)
def test_what_steers_the_engine_is_left_out_and_counted(endpoint: Endpoint, field: str) -> None:
    asked = request(endpoint, **{field: STEERING[field]})
    body, removed = render(asked, model="m", max_completion=1, cache_salt="ours", extra_fields=())
    assert removed == 1
    assert json.loads(body).get(field) == ("ours" if field == "cache_salt" else None)


@endpoints
def test_an_operator_may_let_a_field_through(endpoint: Endpoint) -> None:
    assert rendered(endpoint, extra_fields=frozenset({"guided_json"}), guided_json={"a": 1})["guided_json"] == {"a": 1}


@endpoints
def test_the_engine_reads_its_own_name_for_the_model_and_our_salt(endpoint: Endpoint) -> None:
    body = rendered(endpoint)
    assert (body["model"], body["cache_salt"]) == ("engine-name", "salt")
    assert body[endpoint.prompt_field] == MINIMAL[endpoint.name][endpoint.prompt_field]


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS], ids=["chat", "completions"])
@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"include_usage": False},
        {"include_usage": True, "continuous_usage_stats": False},
        {"continuous_usage_stats": True},
        {"include_usage": True, "anything": 1},
    ],
)
def test_a_stream_always_asks_for_continuous_usage(endpoint: Endpoint, options: dict[str, Any] | None) -> None:
    body = rendered(endpoint, stream=True, stream_options=options)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert body["stream"] is True


@pytest.mark.parametrize(
    ("options", "include", "continuous"),
    [
        (None, False, False),
        ({"include_usage": True}, True, False),
        ({"include_usage": True, "continuous_usage_stats": True}, True, True),
        ({"include_usage": "yes"}, False, False),
    ],
)
def test_what_the_client_asked_to_see_is_known(options: Any, *, include: bool, continuous: bool) -> None:
    asked = request(CHAT, stream=True, stream_options=options)
    assert (asked.include_usage, asked.continuous_usage) == (include, continuous)


def test_an_answer_that_is_not_streamed_has_no_stream_options() -> None:
    # vLLM answers 400 to them.
    assert "stream_options" not in rendered(CHAT, stream=False, stream_options=None)


@pytest.mark.parametrize(
    ("endpoint", "fields", "asked"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_completion_tokens": 7}, 7),
        (CHAT, {"max_tokens": 1, "max_completion_tokens": 10_000}, 10_000),
        (CHAT, {"max_tokens": 10_000, "max_completion_tokens": 1}, 1),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": None}, 5),
        (COMPLETIONS, {"max_tokens": 5}, 5),
        (COMPLETIONS, {"max_tokens": 5, "max_completion_tokens": 10_000}, 5),
        (COMPLETIONS, {}, None),
    ],
)
def test_max_completion_tokens_wins_where_vllm_lets_it_win(
    endpoint: Endpoint, fields: dict[str, Any], asked: int | None
) -> None:
    assert request(endpoint, **fields).max_completion == asked


@pytest.mark.parametrize(("endpoint", "name"), [(CHAT, "max_completion_tokens"), (COMPLETIONS, "max_tokens")])
def test_the_engine_reads_one_limit_and_it_is_ours(endpoint: Endpoint, name: str) -> None:
    body = rendered(endpoint, max_completion=33, max_tokens=500, max_completion_tokens=500)
    assert {key: body[key] for key in body if key.startswith("max_")} == {name: 33}


@pytest.mark.parametrize(("asked", "granted", "told"), [(5, 100, 5), (100, 50, 50), (50, 50, 50)])
def test_min_tokens_is_clamped_with_the_limit(asked: int, granted: int, told: int) -> None:
    assert rendered(CHAT, max_completion=granted, min_tokens=asked)["min_tokens"] == told


def test_embeddings_have_no_limit_on_completion() -> None:
    assert not {"max_tokens", "max_completion_tokens"} & set(rendered(EMBEDDINGS))


@pytest.mark.parametrize(
    ("endpoint", "prompt", "counted"),
    [
        (COMPLETIONS, "hi", (1, 2, 0, 0)),
        (COMPLETIONS, "", (1, 0, 0, 0)),
        (COMPLETIONS, "h\u00e9\U0001f600", (1, 7, 0, 0)),
        (COMPLETIONS, ["hi", "you"], (2, 5, 0, 0)),
        (COMPLETIONS, [1, 2, 3], (1, 0, 3, 3)),
        (COMPLETIONS, [[1, 2, 3], [4]], (2, 0, 4, 3)),
        (EMBEDDINGS, "hi", (1, 2, 0, 0)),
        (EMBEDDINGS, ["hi", "you"], (2, 5, 0, 0)),
        (EMBEDDINGS, [[1], [2]], (2, 0, 2, 1)),
    ],
)
def test_a_prompt_is_counted_in_every_shape(
    endpoint: Endpoint, prompt: Any, counted: tuple[int, int, int, int]
) -> None:
    # (prompts, text_bytes, token_ids, longest_ids)
    asked = request(endpoint, **{endpoint.prompt_field: prompt})
    assert (asked.prompts, asked.text_bytes, asked.token_ids, asked.longest_ids) == counted


def test_choices_multiply_over_prompts() -> None:
    assert request(COMPLETIONS, prompt=["a", "b", "c"], n=4).choices == 12
    assert request(CHAT, n=4).choices == 4
    assert request(CHAT, n=None).choices == 1


def test_a_suffix_counts_for_each_prompt() -> None:
    assert request(COMPLETIONS, prompt=["a", "b"], suffix="123").text_bytes == 8


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
    asked = parse(
        CHAT,
        json.dumps(
            MINIMAL["chat"]
            | {"messages": [{"role": "user", "content": content}], "tools": tool_list, "documents": documents}
        ).encode(),
        replace(MAXIMA, json_depth_max=64),
    )
    # Templates write tools by `tojson`, mostly indented by four.
    written = [content] + [json.dumps(part, indent=4, ensure_ascii=False) for part in (tool_list, documents) if part]
    assert asked.text_bytes >= sum(len(text.encode()) for text in written)


MALFORMED: list[tuple[Endpoint, dict[str, Any], str | None]] = [
    (CHAT, {"model": None}, "model"),
    (CHAT, {"model": ""}, "model"),
    (CHAT, {"model": 7}, "model"),
    (CHAT, {"messages": None}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": ["hi"]}, "messages"),
    (CHAT, {"stream": "true"}, "stream"),
    (CHAT, {"stream": 1}, "stream"),
    (CHAT, {"stream_options": {}}, "stream_options"),
    (CHAT, {"stream": False, "stream_options": {}}, "stream_options"),
    (CHAT, {"stream": True, "stream_options": []}, "stream_options"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 9}, "n"),
    (CHAT, {"n": 1.0}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"n": "1"}, "n"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_tokens": -1}, "max_tokens"),
    (CHAT, {"max_tokens": 2**31 + 1}, "max_tokens"),
    (CHAT, {"max_tokens": 2**70}, "max_tokens"),
    (CHAT, {"max_completion_tokens": 0}, "max_completion_tokens"),
    (CHAT, {"max_completion_tokens": "many"}, "max_completion_tokens"),
    (CHAT, {"min_tokens": -1}, "min_tokens"),
    (CHAT, {"min_tokens": 1.5}, "min_tokens"),
    (COMPLETIONS, {"prompt": None}, "prompt"),
    (COMPLETIONS, {"prompt": []}, "prompt"),
    (COMPLETIONS, {"prompt": [[]]}, "prompt"),
    (COMPLETIONS, {"prompt": ["a", 1]}, "prompt"),
    (COMPLETIONS, {"prompt": [[1], "a"]}, "prompt"),
    (COMPLETIONS, {"prompt": [True]}, "prompt"),
    (COMPLETIONS, {"prompt": [[1.0]]}, "prompt"),
    (COMPLETIONS, {"prompt": {"prompt": "a"}}, "prompt"),
    (COMPLETIONS, {"prompt": ["a"] * 5}, "prompt"),
    (COMPLETIONS, {"suffix": 1}, "suffix"),
    (EMBEDDINGS, {"input": None}, "input"),
    (CHAT, {"top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"top_logprobs": -1}, "top_logprobs"),
    (CHAT, {"top_logprobs": "5"}, "top_logprobs"),
    (CHAT, {"logprobs": 5}, "logprobs"),
    (COMPLETIONS, {"logprobs": 21}, "logprobs"),
    (COMPLETIONS, {"logprobs": True}, "logprobs"),
    (CHAT, {"stop": ["a"] * 5}, "stop"),
    (CHAT, {"stop": "a" * 65}, "stop"),
    (CHAT, {"stop": ["\u20ac" * 22]}, "stop"),
    (CHAT, {"stop": [1]}, "stop"),
    (CHAT, {"stop": {"a": 1}}, "stop"),
    (CHAT, {"tools": [{}] * 5}, "tools"),
    (CHAT, {"tools": {}}, "tools"),
    (CHAT, {"tools": [{"x": "a" * 4096}]}, "tools"),
    (CHAT, {"response_format": {"x": "a" * 4096}}, "response_format"),
    (COMPLETIONS, {"structured_outputs": {"regex": "a" * 4096}}, "structured_outputs"),
    (CHAT, {"chat_template_kwargs": {"x": "a" * 4096}}, "chat_template_kwargs"),
    (CHAT, {"logit_bias": {str(n): 1 for n in range(9)}}, "logit_bias"),
    (CHAT, {"logit_bias": []}, "logit_bias"),
    (CHAT, {"stop_token_ids": [1] * 9}, "stop_token_ids"),
    (CHAT, {"stop_token_ids": 1}, "stop_token_ids"),
    (CHAT, {"bad_words": ["a"] * 9}, "bad_words"),
    (CHAT, {"allowed_token_ids": [1] * 9}, "allowed_token_ids"),
]


@pytest.mark.parametrize(("endpoint", "fields", "param"), MALFORMED)
def test_a_malformed_field_is_named(endpoint: Endpoint, fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(MalformedRequest) as caught:
        request(endpoint, **fields)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'"' + b"[" * 100 + b'"',
        b"null",
        b'{"model":"demo"} trailing',
        b'{"model":"\xff"}',
        rb'{"model":"\ud800"}',
        b'{"model":NaN}',
        b'{"model":"demo","messages":[{"content":' + b"[" * 2_000 + b"]" * 2_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_json_object_names_no_field(body: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse(CHAT, body, replace(MAXIMA, json_depth_max=64))
    assert caught.value.param is None


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "deep"


@pytest.mark.parametrize("field", ["messages", "documents", "unknown"])
def test_nesting_is_bounded_everywhere(field: str) -> None:
    # The body itself is the first of ten levels, and messages are lists of objects.
    at_the_bound = [{"role": "user", "more": nested(7)}] if field == "messages" else nested(9)
    beyond = [{"role": "user", "more": nested(8)}] if field == "messages" else nested(10)
    request(CHAT, **{field: at_the_bound})
    with pytest.raises(MalformedRequest, match="10 levels"):
        request(CHAT, **{field: beyond})


def test_many_brackets_side_by_side_are_no_nesting() -> None:
    assert request(CHAT, messages=[{"role": "user", "content": "[[[[{{{{"}] * 50).prompts == 1
