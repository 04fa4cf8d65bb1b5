"""
An answer in one piece: what it used, and whether the engine gave it up.

Source: vLLM 0.32's answers of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`, in tests/data.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from engine.faults import UpstreamBroken
from engine.protocols.base import Answer
from engine.protocols.usage import Usage, usage_of


def read_answer(body: bytes, *, prompts: int) -> Answer:
    """Return what the answer to so many prompts says; raise `UpstreamBroken` for what vLLM does not send."""
    try:
        answer = orjson.loads(body)
        choices = answer.get("choices", ())
        aborted = "abort" in [choice.get("finish_reason") for choice in choices]
        usage = usage_of(answer["usage"])
        return Answer(_proven(usage, choices, prompts) if aborted else usage, aborted)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UpstreamBroken("the answer is not what vLLM sends") from error


def _proven(usage: Usage, choices: Sequence[dict[str, Any]], prompts: int) -> Usage:
    """Return what of an aborted answer was computed: a prompt counts with its first token."""
    if not usage.completion_tokens:
        return Usage()
    if prompts > 1 and not all(choice.get("text") for choice in choices):
        return Usage(completion_tokens=usage.completion_tokens)
    return usage
