"""
What an engine says it has used, and how to take that out of a frame by bytes.

vLLM 0.32 puts `"usage":{...}` into every frame when asked for continuous statistics: of that frame's choice so far.
Only the last frame (`"choices":[]`) sums over the choices and knows the cached tokens.
Source: vllm entrypoints/openai/chat_completion/serving.py; the transcripts in tests/data.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson

_USAGE = re.compile(rb',"usage":(\{(?:[^{}]|\{[^{}]*\})*\}|null)')
"""A quote inside a JSON string is escaped, so these bytes stand only where the key stands."""
NO_CHOICES = b'"choices":[]'
"""Marks the frame of the engine's own sum."""
_CHOICE_INDEX = re.compile(rb'"choices":\[\{"index":(\d+)')


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one exchange; `cached_tokens` are a part of `prompt_tokens`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


def usage_of(value: dict[str, Any]) -> Usage:
    """Return a usage object of the OpenAI API as ours; raise `ValueError` for what no engine says."""
    details = value.get("prompt_tokens_details") or {}
    if not isinstance(details, dict):
        raise ValueError("prompt_tokens_details is no object")
    prompt_tokens = _count(value.get("prompt_tokens"))
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(prompt_tokens, _count(details.get("cached_tokens"))),
        completion_tokens=_count(value.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise ValueError("a token count is no natural number")
    return value


def split_usage(frame: bytes) -> tuple[bytes, Usage | None]:
    """Return the frame without its usage, and the usage; a frame without one comes back as it is. Raises ValueError."""
    found = _USAGE.search(frame)
    if found is None:
        return frame, None
    value = orjson.loads(found[1])
    return frame[: found.start()] + frame[found.end() :], usage_of(value) if value else None


class RunningUsage:
    """
    The usage of a stream so far: the sum over choices of their latest counts, and each prompt once.

    vLLM numbers the choices of a prompt list in turn: choice `i` belongs to prompt `i // n`.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._completions: dict[int, int] = {}
        self._prompts: dict[int, int] = {}
        self._final: Usage | None = None

    def see(self, frame: bytes, usage: Usage) -> None:
        """Take in the usage of one frame, which tells the choice it speaks of; raise `ValueError` if it does not."""
        if NO_CHOICES in frame:
            self._final = usage
            return
        choice = _CHOICE_INDEX.search(frame)
        if choice is None:
            raise ValueError("a frame with usage does not say whose it is")
        index = int(choice[1])
        self._completions[index] = max(usage.completion_tokens, self._completions.get(index, 0))
        self._prompts[index // self._n] = usage.prompt_tokens

    @property
    def final(self) -> Usage | None:
        """The engine's own sum, once it was received."""
        return self._final

    @property
    def so_far(self) -> Usage:
        """The engine's own sum if there is one, else the running one."""
        if self._final is not None:
            return self._final
        return Usage(sum(self._prompts.values()), 0, sum(self._completions.values()))
