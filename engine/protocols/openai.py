"""
What OpenAI's endpoints have in common: how a failure reads, how an answer is asked for, streamed and counted.

Rules:
- Fields that vLLM takes pass, but for those in `WITHHELD_FIELDS` and their like, each for a reason.
- What the engine checks better than we could (temperatures, tools, schemas) is left to its own 400.
- The engine reads one limit on the completion, and it is ours; a stream always tells its usage in every frame.
"""

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from engine.faults import MalformedRequest
from engine.protocols.answer import read_answer
from engine.protocols.answer_size import check_completion
from engine.protocols.base import Answer, FailureRow, ParsedRequest, StreamMachine
from engine.protocols.fields import flag, passing
from engine.protocols.stream import CompletionStream

SAMPLING_FIELDS = frozenset(
    "model stream stream_options n max_tokens min_tokens temperature top_p top_k min_p frequency_penalty "
    "presence_penalty repetition_penalty length_penalty seed stop stop_token_ids include_stop_str_in_output bad_words "
    "ignore_eos logit_bias logprobs skip_special_tokens spaces_between_special_tokens allowed_token_ids "
    "add_special_tokens response_format structured_outputs thinking_token_budget return_tokens_as_token_ids".split()
)
WITHHELD_FIELDS = frozenset(
    # The gateway's own: who comes first, whose cache it is, what a request is called, how often a stream speaks.
    "priority cache_salt request_id session_id kv_transfer_params ec_transfer_params vllm_xargs stream_interval "
    # Cuts a prompt after it was counted and reserved whole.
    "truncate_prompt_tokens truncation_side "
    # Work or answers that no bound here foresees.
    "use_beam_search prompt_logprobs logprob_token_ids repetition_detection return_token_ids "
    # The operator's to decide.
    "watermarking "
    # Without effect where it is asked.
    "user return_token_offsets mm_payload return_mm_kwargs routed_experts_prompt_start".split()
)
"""What vLLM 0.32 would take where tokens are generated, and does not get."""

_ID = b'{"id":"'


def error_body(error: FailureRow) -> bytes:
    """Return OpenAI's error envelope as JSON."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told})


def _event(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _with(body: bytes, **more: Any) -> bytes:
    """Return an error's body on one line, with more in its `error`."""
    told = orjson.loads(body)
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        told["error"] |= more
    return orjson.dumps(told)


class OpenAiProtocol:
    """What is the same at each of the endpoints."""

    __slots__ = ()
    generates: bool
    """Whether it generates tokens."""
    default_completion: int | None = None
    id_prefix: str
    """What vLLM puts before the request's id."""

    def answers(self, request_id: str, begin: bytes) -> bool | None:
        """Tell whether an answer has the request's id, where it begins as vLLM's do."""
        begin = begin.removeprefix(b"data: ")
        if not begin.startswith(_ID):
            return None
        return begin.startswith(b'%b%b%b"' % (_ID, self.id_prefix.encode(), request_id.encode()))

    def read_answer(self, request: ParsedRequest, parts: Sequence[bytes]) -> Answer:
        """Return what an answer in one piece says."""
        return read_answer(parts, prompts=request.prompts, generates=self.generates and not request.scores)

    def error_body(self, error: FailureRow) -> bytes:
        """Return OpenAI's error envelope."""
        return error_body(error)

    def error_frame(self, error: FailureRow, *, early: bool) -> bytes:
        """Return the envelope as an event, behind which no `[DONE]` comes."""
        told = error_body(error)
        return _event(_with(told, status=error.status, retry_after_s=error.retry_after_s) if early else told)

    def refusal_frame(self, status: int, body: bytes) -> bytes:
        """Return the engine's envelope likewise, with the status that it would have had."""
        return _event(_with(body, status=status))


class CompletionProtocol(OpenAiProtocol):
    """What is the same where tokens are generated."""

    __slots__ = ()
    generates = True
    fields: frozenset[str]
    """What may pass."""
    engine_limit_field: str
    """By which the engine is told how many tokens a choice may have."""

    def logprobs(self, fields: dict[str, Any]) -> int:
        """Return how many entries of logprobs each token of an answer has."""
        raise NotImplementedError

    def check_answer(
        self, request: ParsedRequest, *, max_completion: int, context_tokens: int, extra_fields: Collection[str]
    ) -> int:
        """Return how large the answer can get."""
        return check_completion(
            request,
            self.logprobs(request.fields),
            max_completion=max_completion,
            context_tokens=context_tokens,
            extra_fields=extra_fields,
        )

    def stream(self, request: ParsedRequest) -> StreamMachine | None:
        """Return the machine that reads a stream."""
        if not request.stream:
            return None
        return CompletionStream(
            n=request.n,
            include_usage=request.include_usage,
            continuous_usage=request.continuous_usage,
            scores=request.scores,
        )

    def render(
        self, request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
    ) -> bytes:
        """Return the body for the engine."""
        body = passing(request.fields, self.fields, extra_fields)
        body["model"] = model
        body["cache_salt"] = cache_salt
        asked = body.pop("max_tokens", None)
        # Of a prompt that is only to be scored (`echo`) the engine must know that nothing else is to be shown.
        body[self.engine_limit_field] = 0 if asked == 0 else max_completion
        if request.min_completion:
            body["min_tokens"] = min(request.min_completion, max_completion)
        if request.stream:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        else:
            body.pop("stream_options", None)
        return orjson.dumps(body)


def streaming(fields: dict[str, Any]) -> tuple[bool, bool, bool]:
    """
    Return whether the answer is to come as a stream, and whether with its usage, and with that in every frame.

    Raises: MalformedRequest.
    """
    stream, options = flag(fields, "stream"), fields.get("stream_options")
    if options is None:
        return stream, False, False
    if not stream:
        raise MalformedRequest("`stream_options` may only be given with `stream: true`.", "stream_options")
    if not isinstance(options, dict):
        raise MalformedRequest("`stream_options` must be an object.", "stream_options")
    return True, flag(options, "include_usage"), flag(options, "continuous_usage_stats")
