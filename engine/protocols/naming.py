"""
The model's name in an answer, where its engine knows it by another than clients do.

Decision: the first `"model"` of a frame, or of a whole answer, is written anew, whatever name stands there.
Because an engine with several names answers with the first of them, whichever it was asked by; and in what OpenAI's
endpoints send the model comes before anything that a model wrote. A quote inside a text is escaped, so that the key is
one. Instead of parsing: all else goes on as it came.
"""

import re
from collections.abc import Sequence

import orjson

_NAME = rb'"model"\s*:\s*)"(?:[^"\\]|\\.)*"'
_IN_FRAMES = re.compile(rb"(?m)^(data:[^\r\n]*?" + _NAME)
_IN_ANSWER = re.compile(rb"(?s)\A(.*?" + _NAME)
_HEAD_BYTES = 16 * 1024
"""Of a whole answer, in which its model stands where vLLM writes it."""


def named_frames(frames: bytes, name: str) -> bytes:
    """Return whole frames with this name for the model."""
    return _IN_FRAMES.sub(_written(name), frames)


def named_answer(parts: Sequence[bytes], name: str) -> list[bytes]:
    """Return a whole answer, which came in these parts, with this name for the model."""
    count = size = 0
    while count < len(parts) and size < _HEAD_BYTES:
        size, count = size + len(parts[count]), count + 1
    head, found = _IN_ANSWER.subn(_written(name), b"".join(parts[:count]), 1)
    if found or count == len(parts):
        return [head, *parts[count:]]
    return [_IN_ANSWER.sub(_written(name), b"".join(parts), 1)]


def _written(name: str) -> bytes:
    return rb"\g<1>" + orjson.dumps(name).replace(b"\\", rb"\\")
