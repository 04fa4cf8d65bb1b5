"""
`/v1/completions` as vLLM takes it.

Source: vllm entrypoints/openai/completion/protocol.py; the transcripts in tests/data.
"""

from typing import Any

from engine.protocols.base import ParsedRequest
from engine.protocols.bounds import Maxima, check_fields
from engine.protocols.fields import INTEGER_MAX, flag, integer, read_fields
from engine.protocols.openai import SAMPLING_FIELDS, WITHHELD_FIELDS, CompletionProtocol, streaming
from engine.protocols.prompt import of_texts


class Completions(CompletionProtocol):
    """One or more texts, or lists of token ids, each with one or more that go on with it."""

    __slots__ = ()
    name = "completions"
    path = "/v1/completions"
    prompt_field = "prompt"
    id_prefix = "cmpl-"
    engine_limit_field = "max_tokens"
    default_completion: int | None = 16
    """As of OpenAI and vLLM."""
    fields = SAMPLING_FIELDS | {"prompt", "suffix", "echo"}
    # Tensors, which nobody here can count.
    withheld = WITHHELD_FIELDS | {"prompt_embeds"}

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        """Return what `body` asks for."""
        fields, model = read_fields(body, maxima)
        check_fields(fields, maxima)
        stream, include_usage, continuous_usage = streaming(fields)
        integer(fields, "logprobs", 0, maxima.logprobs_max)
        n = integer(fields, "n", 1, maxima.n_max) or 1
        max_completion = integer(fields, "max_tokens", 0 if flag(fields, "echo") else 1, INTEGER_MAX)
        scores = max_completion == 0
        if scores:
            # The prompt is scored and shown; the one token that vLLM generates for it is counted and not shown.
            max_completion = 1
        min_completion = integer(fields, "min_tokens", 0, INTEGER_MAX) or 0
        return ParsedRequest(
            protocol=self,
            model=model,
            prompt=of_texts("prompt", fields.get("prompt"), fields.get("suffix"), maxima.prompts_max),
            fields=fields,
            stream=stream,
            include_usage=include_usage,
            continuous_usage=continuous_usage,
            n=n,
            max_completion=max_completion,
            limit_field="max_tokens",
            min_completion=min_completion,
            scores=scores,
        )

    def logprobs(self, fields: dict[str, Any]) -> int:
        """Return how many entries each token has: its own, and those of the others, where it may stand once more."""
        asked = fields.get("logprobs")
        return 0 if asked is None else 2 + int(asked)

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        """Return the answer's id with the number of each prompt."""
        return [f"{self.id_prefix}{request_id}-{prompt}" for prompt in range(prompts)]


COMPLETIONS = Completions()
