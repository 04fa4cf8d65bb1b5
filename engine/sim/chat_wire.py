"""The bytes of /v1/chat/completions: a role frame per choice, content frames, finish frames, usage."""

from collections.abc import Sequence as Ordered
from typing import Any

import orjson

from engine.sim import wire
from engine.sim.sequence import Sequence, Step
from engine.sim.tokens import Token


class ChatWire:
    """Writes one chat answer."""

    def __init__(self, answer: wire.AnswerHeader) -> None:
        self._answer = answer
        self._prompt_tokens = len(answer.job.prompts[0])

    def owner(self, prompt: int) -> str:
        """Return the answer's id: a chat has one prompt."""
        return self._answer.id

    def opening(self, choices: int) -> list[bytes]:
        """Return the role frames."""
        return [wire.event(self._role(index)) for index in range(choices)]

    def frame(self, step: Step) -> bytes:
        """Return one step's frame; the finish frame names the fingerprint unless the usage frame will."""
        logprobs = self._logprobs([step.token]) if step.token else None
        choice: dict[str, Any] = {"index": step.index, "delta": {"content": step.delta}, "logprobs": logprobs}
        choice["finish_reason"] = step.finish
        if step.finish:
            choice["stop_reason"] = step.stop_reason
        choice["token_ids"] = None
        chunk = self._chunk([choice])
        if self._answer.job.continuous_usage:
            chunk["usage"] = self._usage_so_far(step.completion_tokens)
        if step.finish and not self._answer.job.include_usage:
            chunk["system_fingerprint"] = wire.FINGERPRINT
        return wire.event(chunk)

    def usage_frame(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the frame without choices that sums up."""
        details = {"prompt_tokens_details": self._prompt_details(sequences[0])}
        total = wire.total_usage(sequences, self._answer.job.n) | details
        return wire.event(self._chunk([]) | {"usage": total, "system_fingerprint": wire.FINGERPRINT})

    def body(self, sequences: Ordered[Sequence]) -> bytes:
        """Return the answer in one piece."""
        details = self._prompt_details(sequences[0]) | {"multimodal_tokens": None}
        total = wire.total_usage(sequences, self._answer.job.n)
        total |= {"prompt_tokens_details": details, "completion_tokens_details": None}
        return orjson.dumps(
            {
                "id": self._answer.id,
                "object": "chat.completion",
                "created": self._answer.created,
                "model": self._answer.model,
                "choices": [self._choice(sequence) for sequence in sequences],
                "service_tier": None,
                "system_fingerprint": wire.FINGERPRINT,
                "usage": total,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "prompt_text": None,
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            }
        )

    def _choice(self, sequence: Sequence) -> dict[str, Any]:
        message = {"role": "assistant", "content": sequence.spelled, "refusal": None, "annotations": None}
        message |= {"audio": None, "function_call": None, "reasoning": None}
        return {
            "index": sequence.index,
            "message": message,
            "logprobs": self._logprobs(sequence.generated),
            "finish_reason": sequence.finish,
            "stop_reason": sequence.stop_reason,
            "token_ids": None,
            "routed_experts": None,
        }

    def _role(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""}
        chunk = self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
        if self._answer.job.continuous_usage:
            chunk["usage"] = self._usage_so_far(0)
        return chunk | {"prompt_token_ids": None, "prompt_text": None}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        answer = self._answer
        head = {"id": answer.id, "object": "chat.completion.chunk", "created": answer.created}
        return {**head, "model": answer.model, "choices": choices}

    def _usage_so_far(self, completion_tokens: int) -> dict[str, Any]:
        return wire.usage(self._prompt_tokens, completion_tokens) | {"completion_tokens_details": None}

    def _prompt_details(self, first: Sequence) -> dict[str, Any]:
        size = self._answer.block_size
        created = max(0, len(first.prompt) // size * size - first.cached_tokens)
        return {"cached_tokens": first.cached_tokens, "created_cache_tokens": created}

    def _logprobs(self, tokens: Ordered[Token]) -> dict[str, Any] | None:
        count = self._answer.job.logprobs
        if count is None:
            return None
        return {"content": [self._logprob(token, count) for token in tokens]}

    def _logprob(self, token: Token, count: int) -> dict[str, Any]:
        top = [_named(text, value) for text, value in wire.top_logprobs(token, count)]
        return _named(token.text, wire.logprob(token)) | {"top_logprobs": top}


def _named(text: str, value: float) -> dict[str, Any]:
    return {"token": text, "logprob": value, "bytes": list(text.encode())}
