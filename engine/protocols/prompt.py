"""
How much of a request's body becomes prompt: its texts in bytes, its token ids in number.

The byte count is an upper bound of what a tokenizer can make tokens of, so it counts what grows on the way:

- Normalization. Some tokenizers compose or decompose text first, and that can lengthen it: see `normal.py`.
- Templates. A chat template writes tools, documents and the arguments of tool calls as JSON, perhaps indented, with
  numbers spelt out as Python spells them.
- Media. What a picture costs is nobody's to guess: its bytes do not count here, and whoever lets it pass counts it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.faults import MalformedRequest
from engine.protocols import parts
from engine.protocols.bounds import ESCAPED, is_deeper
from engine.protocols.normal import bytes_max

_ARGUMENTS_MAX = 20_000
"""Values in the arguments of tool calls that are worth parsing; with more, they count as whatever fills the context."""
_SPELLED_MAX = 20_000
"""Values that are worth spelling out as Python does; with more, each counts as the longest number."""
_NUMBER_BYTES = 24
_UNBOUNDED = 2**31
_INDENT = 4
_NESTED_MAX = 1_000
"""Deeper, Python reads no JSON."""
_LONG_NUMBER = re.compile(r"\d{16}").search
_NO_MESSAGES = "`messages` must be a non-empty list of objects."
_TEMPLATE_FIELDS = ("tools", "documents", "chat_template_kwargs", "response_format", "structured_outputs")


@dataclass(slots=True)
class Prompt:
    """The prompts of one request, measured. Nobody changes it."""

    count: int
    text_bytes: int
    """Over all prompts given as text, syntax included."""
    id_lengths: tuple[int, ...] = ()
    """Of each prompt given as token ids."""
    media: tuple[dict[str, Any], ...] = ()
    """What holds a picture, a sound or a film."""

    @property
    def token_ids(self) -> int:
        """How many tokens are given as ids, counted exactly."""
        return sum(self.id_lengths)

    @property
    def longest_ids(self) -> int:
        """The longest single prompt given as ids."""
        return max(self.id_lengths, default=0)


def of_chat(fields: dict[str, Any], depth_max: int) -> Prompt:
    """Measure a conversation, in which nothing is nested deeper than that; raise `MalformedRequest`."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise MalformedRequest(_NO_MESSAGES, "messages")
    held: list[dict[str, Any]] = []
    calls = 0
    for message in messages:
        if not isinstance(message, dict):
            raise MalformedRequest(_NO_MESSAGES, "messages")
        held += _check(message)
        if message.get("tool_calls"):
            calls += _tool_call_bytes(message["tool_calls"], depth_max)
    texts = orjson.dumps([_without_media(message) for message in messages] if held else messages)
    said = len(texts) if texts.isascii() else bytes_max(texts.decode())
    rendered = 0
    if not fields.keys().isdisjoint(_TEMPLATE_FIELDS):
        rendered = sum(_rendered_bytes(fields[name]) for name in _TEMPLATE_FIELDS if fields.get(name))
    return Prompt(1, said + calls + rendered, (), tuple(held))


def of_texts(name: str, value: Any, suffix: Any, prompts_max: int) -> Prompt:
    """Measure the prompts of a completion or the inputs to embed; raise `MalformedRequest`."""
    if suffix is not None and not isinstance(suffix, str):
        raise MalformedRequest("`suffix` must be a string.", "suffix")
    prompts = _listed(name, value)
    if len(prompts) > prompts_max:
        raise MalformedRequest(f"`{name}` holds {len(prompts)} prompts; at most {prompts_max} are taken.", name)
    texts = sum(bytes_max(prompt) for prompt in prompts if isinstance(prompt, str))
    extra = bytes_max(suffix) * len(prompts) if suffix else 0
    return Prompt(len(prompts), texts + extra, tuple(len(prompt) for prompt in prompts if isinstance(prompt, list)))


def _check(message: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Return what the message holds besides text, and write its parts anew."""
    role = message.get("role")
    if not role or not isinstance(role, str):
        raise MalformedRequest("Each message must have a `role`.", "messages")
    content = message.get("content")
    if not isinstance(content, list):
        return ()
    message["content"] = content = parts.written(content)
    return [part[part["type"]] for part in content if not parts.is_text(part)]


def _without_media(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return message | {"content": list(filter(parts.is_text, content))} if isinstance(content, list) else message


def _tool_call_bytes(calls: Any, depth_max: int) -> int:
    """
    Return the most bytes that a template writes for the arguments of tool calls, which vLLM parses before.

    Raises: MalformedRequest, where they are nested deeper than a body may be.
    """
    written = values = 0
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):
            values += sum(map(arguments.count, "[{,"))
            if values > _ARGUMENTS_MAX:
                return _UNBOUNDED
            written += _arguments_bytes(arguments, depth_max)
    return written


def _arguments_bytes(arguments: str, depth_max: int) -> int:
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        # Infinite numbers and half characters are JSON to Python, and only a bound is told of what is none to anyone.
        opened = arguments.count("[") + arguments.count("{")
        values = 1 + opened + arguments.count(",")
        return len(arguments) * ESCAPED + 2 * values * (1 + _INDENT * min(opened, _NESTED_MAX))
    if is_deeper([value], depth_max + 1):
        message = f"The arguments of a tool call are nested more than {depth_max} levels deep."
        raise MalformedRequest(message, "messages")
    # A long integer was read as a float, and is written with all its digits.
    return _rendered_bytes(value) + (len(arguments) if _LONG_NUMBER(arguments) else 0)


def _rendered_bytes(value: Any) -> int:
    """Return the most bytes that a chat template writes for `value`: as JSON, indented by up to four spaces."""
    compact = orjson.dumps(value)
    indents = len(orjson.dumps(value, option=orjson.OPT_INDENT_2)) - len(compact)
    values = compact.count(b",")
    if values > _SPELLED_MAX:
        return len(compact) * ESCAPED + values * _NUMBER_BYTES + 2 * indents
    return len(json.dumps(value)) + 2 * indents


def _listed(name: str, value: Any) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        kinds = set(map(type, value))
        if kinds == {int}:
            return [value]
        if kinds == {str}:
            return value
        if kinds == {list} and all(set(map(type, item)) == {int} for item in value):
            return value
    raise MalformedRequest(f"`{name}` must be a string, a list of strings, or one or more lists of token ids.", name)
