"""
One data frame of a completion stream: what usage it tells and of which choice, and the frame without that usage.

Decision: a frame in vLLM's own writing (compact, `id` first, a choice's `index` first) is read and cut by bytes.
Because parsing each would cost more than all else that is done to it, and what goes on stays what came. One written
otherwise (spaces, several data lines, other orders of keys) is parsed, and written anew where a usage is taken out.
All frames of one choice open with the same bytes and nearly all end with their usage, so that of those which come in
one read all usages are taken out at once.

Source: vllm entrypoints/openai/chat_completion/serving.py and completion/serving.py: every chunk is a pydantic model's
`model_dump_json`, every error `json.dumps`.
"""

import re
from typing import Any, NamedTuple

import orjson

from engine.protocols.usage import Usage, usage_of

_VLLMS_OWN = b'data: {"id":"'
_COUNTS = re.compile(
    rb',"usage":\{"prompt_tokens":(\d{1,15}),"total_tokens":\d+,"completion_tokens":(\d{1,15})'
    rb'(?:,"completion_tokens_details":(?:null|\{[^{}\r\n]*\}))?\}'
)
"""The usage that stands in every frame of a choice, read without parsing it. What a model thought stands in it
too, and counts in the sum alone."""
_COUNTS_LAST = re.compile(_COUNTS.pattern + rb"\}\n\n")
_LAST = b"}\n\n"
_USAGE_KEY = b'"usage"'
_USAGE = re.compile(rb',"usage":(\{(?:[^{}]|\{[^{}]*\})*\}|null)')
"""A quote inside a JSON string is escaped, so these bytes stand only where the key stands."""
_NO_CHOICES = b'"choices":[]'
_CHOICE_INDEX = re.compile(rb'"choices":\[\{"index":(\d+)[,}]')
_ABORT = b'"finish_reason":"abort"'
_FINISH = b'"finish_reason":"'
_FINISHED = re.compile(rb'("finish_reason":"[a-z_]+"[^\n]*)\}\n\n')
_FINGERPRINT = re.compile(rb'"system_fingerprint":("[^"\\]{1,128}")')


class Chunk(NamedTuple):
    """What one data frame says."""

    stripped: bytes
    """The frame without its usage."""
    usage: Usage | None = None
    choice: int | None = None
    """The choice that `usage` speaks of; None is the sum of all, in the frame without choices."""
    has_choices: bool = True
    aborted: bool = False
    """Whether the engine gave a choice up."""
    error: dict[str, Any] | None = None
    """The engine's error object, where the frame is one."""


def opening_of(frame: bytes) -> bytes | None:
    """Return what all frames of its stream open with that speak of a choice, up to which; None where it is no such."""
    choice = _CHOICE_INDEX.search(frame)
    return frame[: choice.start(1)] if choice and frame.startswith(_VLLMS_OWN) else None


def read_run(data: bytes, opening: bytes) -> tuple[bytes, list[tuple[int, Usage]]] | None:
    """
    Return what `data` is without usages, and each usage with its choice, if it is frames that open so and end with one.

    Of a choice that speaks alone there is one: the last, with the most completion tokens of all. None where there is
    anything else in `data`.
    """
    told = _COUNTS_LAST.split(data)
    texts = told[::3]
    # A frame is the text before its usage; behind the last there is nothing.
    count = len(texts) - 1
    if not count or texts.pop():
        return None
    stripped = _LAST.join(texts) + _LAST
    if (
        not stripped.startswith(opening)
        or stripped.count(b"\n") != 2 * count
        or b"\r" in stripped
        or _USAGE_KEY in stripped
        or _ABORT in stripped
    ):
        return None
    choice = _choice_of(stripped, opening)
    if not choice.isdigit():
        return None
    if count == 1:
        return stripped, [(int(choice), Usage(int(told[1]), 0, int(told[2])))]
    if stripped.count(_LAST + opening + choice + b",") == count - 1:
        return stripped, [(int(choice), Usage(int(told[-3]), 0, max(map(int, told[2::3]))))]
    choices = [_choice_of(text, opening) for text in texts]
    if stripped.count(_LAST + opening) != count - 1 or not all(map(bytes.isdigit, choices)):
        return None
    counts = zip(choices, told[1::3], told[2::3], strict=True)
    return stripped, [(int(choice), Usage(int(prompt), 0, int(completion))) for choice, prompt, completion in counts]


def _choice_of(frame: bytes, opening: bytes) -> bytes:
    return frame[len(opening) : frame.find(b",", len(opening))]


def fingerprint_in(frame: bytes) -> bytes:
    """Return the engine's own name in a frame, as JSON; nothing where there is none."""
    found = _FINGERPRINT.search(frame)
    return found[1] if found else b""


def signed(frames: bytes, fingerprint: bytes) -> bytes:
    """Return frames in vLLM's own writing with the engine's name in each that ends a choice, where vLLM puts it."""
    if _FINISH not in frames or b'"system_fingerprint"' in frames:
        return frames
    return _FINISHED.sub(rb'\1,"system_fingerprint":%b}\n\n' % fingerprint, frames)


def read_chunk(frame: bytes, data: bytes) -> Chunk:
    """Return what `frame` says, whose data is `data`; raise `ValueError` for what is no chunk."""
    return _by_bytes(frame) or _by_parsing(frame, data)


def _by_bytes(frame: bytes) -> Chunk | None:
    """Return what a frame in vLLM's own writing says; None where it must be parsed to be sure."""
    if not frame.startswith(_VLLMS_OWN):
        return None
    aborted, is_sum = _ABORT in frame, _NO_CHOICES in frame
    found = None if is_sum else _COUNTS.search(frame)
    if found is not None:
        usage: Usage | None = Usage(int(found[1]), 0, int(found[2]))
    elif (found := _USAGE.search(frame)) is not None:
        told = orjson.loads(found[1])
        usage = usage_of(told) if told else None
    else:
        # The key may be written otherwise, or be a text: a token that is the word `usage`.
        return None if _USAGE_KEY in frame else Chunk(frame, None, None, not is_sum, aborted)
    stripped = frame[: found.start()] + frame[found.end() :]
    if is_sum:
        return Chunk(stripped, usage, None, has_choices=False)
    choice = _CHOICE_INDEX.search(frame)
    if choice is None:
        return None
    return Chunk(stripped, usage, int(choice[1]), aborted=aborted)


def _by_parsing(frame: bytes, data: bytes) -> Chunk:
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError("a data frame is no object")
    if "error" in value or value.get("object") == "error":
        told = value.get("error")
        return Chunk(frame, error=told if isinstance(told, dict) else {})
    choices = value.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("a data frame has no list of choices")
    stripped = frame
    told = value.pop("usage", None)
    if told is not None:
        stripped = b"data: " + orjson.dumps(value) + b"\n\n"
    return Chunk(
        stripped,
        usage_of(told) if told else None,
        _index(choices[0]) if choices and told else None,
        has_choices=bool(choices),
        aborted=any(choice.get("finish_reason") == "abort" for choice in choices),
    )


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    if type(index) is not int or index < 0:
        raise ValueError("a frame with usage does not say whose it is")
    return index
