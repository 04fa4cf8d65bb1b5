"""
The bytes of /v1/completions: content frames and finish frames, no role frame.

vLLM reports the cached tokens of one prompt of a list only: the first one heard of in a stream, the last one otherwise.
"""

from collections.abc import Sequence as Ordered
from typing import Any

import orjson

from engine.sim import wire
from engine.sim.sequence import Sequence, Step
from engine.sim.tokens import Token


class CompletionWire:
    """Writes one completions answer."""

    def __init__(self, answer: wire.AnswerHeader) -> None:
        self._answer = answer
        self._shown: dict[int, int] = {}
        """Characters shown so far, by choice: where the next token's text begins."""

    def owner(self, prompt: int) -> str:
        """Return the answer's id and the prompt's place, also for a single prompt."""
        return f"{self._answer.id}-{prompt}"

    def opening(self, choices: int) -> list[bytes]:
        """Return nothing: completions have no role frame."""
        return []

    def frame(self, step: Step) -> bytes:
        """Return one step's frame; the finish frame names the fingerprint unless the usage frame will."""
        offset = self._shown.get(step.index, 0)
        self._shown[step.index] = offset + len(step.delta)
        choice = {
            "index": step.index,
            "text": step.delta,
            "logprobs": self._logprobs([step.token], offset) if step.token else None,
            "finish_reason": step.finish,
            "stop_reason": step.stop_reason,
            "prompt_token_ids": None,
            "token_ids": None,
        }
        chunk = self._head() | {"choices": [choice]}
        if self._answer.job.continuous_usage:
            chunk["usage"] = wire.usage(step.prompt_tokens, step.completion_tokens)
        if step.finish and not self._answer.job.include_usage:
            chunk["system_fingerprint"] = wire.FINGERPRINT
        return wire.event(chunk)

    def usage_frame(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the frame without choices that sums up."""
        total = wire.total_usage(sequences, self._answer.job.n)
        total |= {"prompt_tokens_details": {"cached_tokens": sequences[0].cached_tokens}}
        return wire.event(self._head() | {"choices": [], "usage": total, "system_fingerprint": wire.FINGERPRINT})

    def body(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the answer in one piece."""
        details = {
            "cached_tokens": sequences[-1].cached_tokens,
            "created_cache_tokens": None,
            "multimodal_tokens": None,
        }
        total = wire.total_usage(sequences, self._answer.job.n)
        total |= {"prompt_tokens_details": details, "completion_tokens_details": None}
        value = self._head() | {"choices": [self._choice(sequence) for sequence in sequences]}
        value |= {"service_tier": None, "system_fingerprint": wire.FINGERPRINT, "usage": total}
        return orjson.dumps(value | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None})

    def _choice(self, sequence: Sequence) -> dict[str, Any]:
        return {
            "index": sequence.index,
            "text": sequence.spelled,
            "logprobs": self._logprobs(sequence.generated, 0),
            "finish_reason": sequence.finish,
            "stop_reason": sequence.stop_reason,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }

    def _head(self) -> dict[str, Any]:
        answer = self._answer
        return {"id": answer.id, "object": "text_completion", "created": answer.created, "model": answer.model}

    def _logprobs(self, tokens: Ordered[Token], offset: int) -> dict[str, Any] | None:
        count = self._answer.job.logprobs
        if count is None:
            return None
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "text_offset": offsets,
            "token_logprobs": [wire.logprob(token) for token in tokens],
            "tokens": [token.text for token in tokens],
            "top_logprobs": [dict(wire.top_logprobs(token, max(1, count))) for token in tokens],
        }
