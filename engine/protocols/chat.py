"""
`/v1/chat/completions` as vLLM takes it.

Source: vllm entrypoints/openai/chat_completion/protocol.py; the transcripts in tests/data.
"""

from typing import Any

from engine.protocols.base import ParsedRequest
from engine.protocols.bounds import Maxima, check_fields
from engine.protocols.fields import INTEGER_MAX, flag, integer, read_fields
from engine.protocols.openai import SAMPLING_FIELDS, WITHHELD_FIELDS, CompletionProtocol, streaming
from engine.protocols.prompt import of_chat


class Chat(CompletionProtocol):
    """A conversation, and one or more messages that go on with it."""

    __slots__ = ()
    name = "chat"
    path = "/v1/chat/completions"
    prompt_field = "messages"
    id_prefix = "chatcmpl-"
    engine_limit_field = "max_completion_tokens"
    fields = SAMPLING_FIELDS | frozenset(
        "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort "
        "include_reasoning echo add_generation_prompt continue_final_message documents chat_template_kwargs".split()
    )
    # Programs that render prompts or media, and the operator's own template in an answer.
    withheld = WITHHELD_FIELDS | {"chat_template", "media_io_kwargs", "mm_processor_kwargs", "return_prompt_text"}

    def parse(self, body: bytes, maxima: Maxima) -> ParsedRequest:
        """Return what `body` asks for."""
        fields, model = read_fields(body, maxima)
        check_fields(fields, maxima)
        stream, include_usage, continuous_usage = streaming(fields)
        integer(fields, "top_logprobs", 0, maxima.logprobs_max)
        flag(fields, "logprobs")
        n = integer(fields, "n", 1, maxima.n_max) or 1
        older = integer(fields, "max_tokens", 1, INTEGER_MAX)
        newer = integer(fields, "max_completion_tokens", 1, INTEGER_MAX)
        min_completion = integer(fields, "min_tokens", 0, INTEGER_MAX) or 0
        return ParsedRequest(
            protocol=self,
            model=model,
            prompt=of_chat(fields, maxima.json_depth_max),
            fields=fields,
            stream=stream,
            include_usage=include_usage,
            continuous_usage=continuous_usage,
            n=n,
            max_completion=older if newer is None else newer,
            limit_field="max_tokens" if newer is None else "max_completion_tokens",
            min_completion=min_completion,
        )

    def logprobs(self, fields: dict[str, Any]) -> int:
        """Return how many entries each token has: its own, and those of the others."""
        return 1 + (fields.get("top_logprobs") or 0) if fields.get("logprobs") else 0

    def abort_ids(self, request_id: str, prompts: int) -> list[str]:
        """Return the answer's id, which covers all its choices."""
        return [self.id_prefix + request_id]


CHAT = Chat()
