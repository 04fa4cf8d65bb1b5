"""
How much of a request's body becomes prompt: its texts in bytes, its token ids in number.

The byte count is an upper bound of what a tokenizer can make tokens of, so it counts what grows on the way:

- Normalization. Some tokenizers compose or decompose text first (Qwen: NFC; SentencePiece models: NFKC), and that can
  lengthen it: the longest of the three forms counts.
- Templates. A chat template writes tools, documents and the arguments of tool calls as JSON, perhaps indented, with
  numbers spelt out as Python spells them.
- Media. What a picture costs is nobody's to guess, so parts other than text are refused.
"""

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

import orjson

from engine.faults import MalformedRequest

_TEXT_PARTS = frozenset({"text", "refusal"})
_TEMPLATE_FIELDS = ("tools", "documents", "chat_template_kwargs", "response_format", "structured_outputs")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompts of one request, measured."""

    count: int
    text_bytes: int
    """Over all prompts given as text, syntax included."""
    id_lengths: tuple[int, ...] = ()
    """Of each prompt given as token ids."""


def of_chat(fields: dict[str, Any]) -> Prompt:
    """Measure a conversation; raise `MalformedRequest`."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise MalformedRequest("`messages` must be a non-empty list of objects.", "messages")
    for message in messages:
        _check(message)
    calls = sum(_tool_call_bytes(message["tool_calls"]) for message in messages if message.get("tool_calls"))
    rendered = sum(_rendered_bytes(fields[name]) for name in _TEMPLATE_FIELDS if fields.get(name))
    return Prompt(1, _text_bytes(orjson.dumps(messages).decode()) + calls + rendered)


def of_texts(name: str, value: Any, suffix: Any, prompts_max: int) -> Prompt:
    """Measure the prompts of a completion or the inputs to embed; raise `MalformedRequest`."""
    if suffix is not None and not isinstance(suffix, str):
        raise MalformedRequest("`suffix` must be a string.", "suffix")
    prompts = _listed(name, value)
    if len(prompts) > prompts_max:
        raise MalformedRequest(f"`{name}` holds {len(prompts)} prompts; at most {prompts_max} are taken.", name)
    texts = sum(_text_bytes(prompt) for prompt in prompts if isinstance(prompt, str))
    extra = _text_bytes(suffix) * len(prompts) if suffix else 0
    return Prompt(len(prompts), texts + extra, tuple(len(prompt) for prompt in prompts if isinstance(prompt, list)))


def _check(message: dict[str, Any]) -> None:
    if not isinstance(message.get("role"), str) or not message["role"]:
        raise MalformedRequest("Each message must have a `role`.", "messages")
    content = message.get("content")
    if isinstance(content, list) and not all(_is_text(part) for part in content):
        raise MalformedRequest("Only text parts are taken in the content of a message.", "messages")


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") in _TEXT_PARTS)


def _text_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode()) for form in forms)


def _tool_call_bytes(calls: Any) -> int:
    """Return the most bytes that a template writes for the arguments of tool calls, which vLLM parses before."""
    written = 0
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):
            try:
                written += _rendered_bytes(json.loads(arguments))
            except (ValueError, RecursionError):
                continue
    return written


def _rendered_bytes(value: Any) -> int:
    """Return the most bytes that a chat template writes for `value`: as JSON, indented by up to four spaces."""
    try:
        indents = len(orjson.dumps(value, option=orjson.OPT_INDENT_2)) - len(orjson.dumps(value))
    except TypeError:  # integers beyond 64 bits, or deeper than orjson goes
        return len(json.dumps(value, indent=4))
    return len(json.dumps(value)) + 2 * indents


def _listed(name: str, value: Any) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(type(item) is int for item in value):
            return [value]
        if all(isinstance(item, str) for item in value):
            return value
        if all(isinstance(item, list) and item and all(type(token) is int for token in item) for item in value):
            return value
    raise MalformedRequest(f"`{name}` must be a string, a list of strings, or one or more lists of token ids.", name)
