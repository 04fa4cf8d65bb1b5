"""
What the two generation endpoints share on the wire: the answer's envelope, usage objects, SSE frames, fake logprobs.

Rules: keys in vLLM's order; compact separators; one frame per step. Key order matters: a gateway that cuts usage out of
a frame by bytes is tested against these bytes.

Source: the recorded transcripts 100 to 225.
"""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from engine.sim.job import SimJob
from engine.sim.sequence import Sequence, Step
from engine.sim.tokens import Token

FINGERPRINT = "vllm-0.32.0-e25804e6"
DONE = b"data: [DONE]\n\n"
_ALTERNATIVES = tuple(
    f" {word}" for word in "the of and to in is you that it he was for on are as with his they at be this".split()
)


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """What is the same in every frame of one answer."""

    id: str
    created: int
    """Seconds since the epoch."""

    model: str
    job: SimJob
    block_size: int


class AnswerFormat(Protocol):
    """Turns the steps of one answer into bytes."""

    def owner(self, prompt: int) -> str:
        """Return the id by which the choices of one prompt are aborted."""
        ...

    def opening(self, choices: int) -> list[bytes]:
        """Return the frames that come before the first token's."""
        ...

    def frame(self, step: Step) -> bytes:
        """Return one step's frame."""
        ...

    def usage_frame(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the last frame of a stream that asked for usage."""
        ...

    def body(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the whole answer to a request without stream."""
        ...


def event(value: dict[str, Any]) -> bytes:
    """Return one SSE frame."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Return the three counts, in vLLM's order."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "total_tokens": total, "completion_tokens": completion_tokens}


def total_usage(sequences: Ordered[Sequence], n: int) -> dict[str, Any]:
    """Return the counts of a whole answer: each prompt once, every choice's completion."""
    prompt_tokens = sum(len(sequence.prompt) for sequence in sequences[::n])
    return usage(prompt_tokens, sum(len(sequence.generated) for sequence in sequences))


def logprob(token: Token) -> float:
    """Return a number that could be the token's log probability; the same token has always the same."""
    return -0.25 - (token.id % 1024) / 512


def top_logprobs(token: Token, count: int) -> list[tuple[str, float]]:
    """Return `count` alternatives with falling log probabilities, the token itself first."""
    others = [text for text in _ALTERNATIVES if text != token.text]
    named = [token.text, *others][:count]
    return [(text, logprob(token) - 0.125 * rank) for rank, text in enumerate(named)]
