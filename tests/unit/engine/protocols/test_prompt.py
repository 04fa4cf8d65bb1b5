"""The bound on a prompt holds whatever a template or a normalizer makes of it."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.faults import MalformedRequest
from engine.protocols.prompt import Prompt, of_chat, of_texts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def measured(fields: dict[str, Any]) -> Prompt:
    return of_chat(fields, depth_max=10)


def calling(*arguments: Any) -> dict[str, Any]:
    calls = [{"type": "function", "function": {"name": "f", "arguments": each}} for each in arguments]
    return {"messages": [{"role": "assistant", "tool_calls": calls}]}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
@given(text=st.text())
def test_a_text_has_no_more_bytes_than_counted_in_any_form_a_tokenizer_gives_it(form: str, text: str) -> None:
    composed = unicodedata.normalize("NFC" if form == "NFD" else form, text)  # type: ignore[arg-type]
    assert of_texts("prompt", text, None, 1).text_bytes >= len(composed.encode())
    assert measured(said(text)).text_bytes >= len(composed.encode())


def test_a_note_that_grows_threefold_when_composed() -> None:
    notes = "\U0001d160" * 1000
    assert of_texts("prompt", notes, None, 1).text_bytes == len(unicodedata.normalize("NFC", notes).encode()) == 12_000


@given(tools=st.lists(st.dictionaries(st.text(min_size=1), JSON, min_size=1, max_size=3), min_size=1, max_size=3))
def test_tools_are_counted_as_a_template_writes_them(tools: list[Any]) -> None:
    tools = json.loads(json.dumps(tools), parse_int=float, parse_constant=str)
    counted = measured(said("hi") | {"tools": tools}).text_bytes - measured(said("hi")).text_bytes
    assert counted >= len(json.dumps(tools, ensure_ascii=False, indent=4).encode())


@given(arguments=JSON)
def test_a_tool_calls_arguments_are_counted_as_python_spells_them_out(arguments: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert measured({"messages": [message]}).text_bytes >= len(json.dumps(arguments, indent=4))


def test_numbers_that_grow_when_they_are_written_out() -> None:
    function = {"name": "f", "arguments": "[" + ",".join(["1e15"] * 1000) + "]"}
    message = {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
    assert measured({"messages": [message]}).text_bytes > 20_000


@pytest.mark.parametrize("arguments", ["not JSON", "[" * 5_000, "9" * 5_000, None, 7])
def test_arguments_that_are_no_json_count_as_text(arguments: Any) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    assert measured({"messages": [{"role": "assistant", "tool_calls": [call, "odd"]}]}).text_bytes > 0


@pytest.mark.parametrize(
    "content",
    [
        [{"image_url": {"url": "http://example.org/a.png"}}],
        [{"type": "image_pil", "image_pil": {}}],
        [{"type": ["image_url"]}],
        [{"type": "text", "text": "look:"}, {"type": "input_audio", "input_audio": {}}],
        [7],
    ],
)
def test_parts_that_are_no_text_and_no_plain_media_are_refused(content: Any) -> None:
    with pytest.raises(MalformedRequest) as caught:
        measured(said(content))
    assert caught.value.param == "messages"


def test_media_are_listed_and_their_bytes_left_out() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    text = {"type": "text", "text": "\u00e9"}
    prompt = measured(said([text, image]))
    assert prompt.media == (image["image_url"],)
    assert prompt.text_bytes == measured(said([text])).text_bytes


def test_arguments_that_would_take_long_to_parse_count_as_more_than_any_context() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "[" + "1e15," * 30_000 + "1]"}}
    assert measured({"messages": [{"role": "assistant", "tool_calls": [call]}]}).text_bytes >= 2**31


def test_arguments_are_nested_no_deeper_than_a_body() -> None:
    assert measured(calling("[" * 10 + "]" * 10)).text_bytes > 0
    for depth in (11, 900):
        with pytest.raises(MalformedRequest, match="tool call are nested more than 10 levels deep"):
            measured(calling("{}", "[" * depth + "]" * depth))


@pytest.mark.parametrize("number", ["9" * 17, "9" * 300, "9" * 4_000])
def test_a_long_integer_is_written_with_all_its_digits(number: str) -> None:
    bare = measured(calling("[]")).text_bytes
    assert measured(calling(f"[{number}]")).text_bytes - bare >= 2 * len(number)


def test_what_is_json_to_python_alone_is_counted_as_indented() -> None:
    arguments = "[" * 9 + "Infinity," * 100 + "0" + "]" * 9
    assert measured(calling(arguments)).text_bytes >= len(json.dumps(json.loads(arguments), indent=4))


@pytest.mark.parametrize("messages", [[{}], [{"role": ""}], [{"role": 1}], [{"content": "hi"}]])
def test_a_message_without_a_role_is_refused(messages: list[Any]) -> None:
    with pytest.raises(MalformedRequest, match="role"):
        measured({"messages": messages})


def test_token_ids_are_counted_one_by_one() -> None:
    prompt = of_texts("prompt", [[1, 2, 3], [4]], None, 2)
    assert (prompt.count, prompt.text_bytes, prompt.id_lengths) == (2, 0, (3, 1))


def test_many_values_are_counted_at_once_and_as_no_less() -> None:
    for values in ([10**15 + 0.5] * 30_000, ["\u00e9"] * 30_000, [[1, {"a": None}]] * 15_000):
        counted = measured(said("hi") | {"documents": [values]}).text_bytes - measured(said("hi")).text_bytes
        assert counted >= len(json.dumps([values], indent=4))
