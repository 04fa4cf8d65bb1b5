"""
OpenAI's request bodies as vLLM takes them: what may pass, what it asks for, and how it is written anew.

Rules:
- A body is parsed, checked where the gateway counts on it, and re-encoded: nothing the client wrote goes on as bytes.
- Fields pass by an allow-list per endpoint. What would let a tenant steer the engine past the gateway (`priority`,
  `cache_salt`, `request_id`, `kv_transfer_params`, `truncate_prompt_tokens`, ...) is not on it.
- What the engine checks better than we could (temperatures, tools, schemas) is left to its own 400.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from engine.faults import MalformedRequest
from engine.protocols import prompt as prompts
from engine.protocols.bounds import Maxima, check_fields, check_size, is_deeper

INTEGER_MAX = 2**31

_SAMPLING = frozenset(
    "model stream stream_options n max_tokens min_tokens temperature top_p top_k min_p frequency_penalty "
    "presence_penalty repetition_penalty length_penalty seed stop stop_token_ids include_stop_str_in_output bad_words "
    "ignore_eos logit_bias logprobs skip_special_tokens spaces_between_special_tokens allowed_token_ids "
    "add_special_tokens response_format structured_outputs".split()
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One forwarded path and the fields that may pass."""

    name: str
    path: str
    fields: frozenset[str]
    prompt_field: str
    completes: bool
    """Whether it generates tokens."""


CHAT = Endpoint(
    "chat",
    "/v1/chat/completions",
    _SAMPLING
    | frozenset(
        "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort "
        "include_reasoning echo add_generation_prompt continue_final_message documents chat_template_kwargs".split()
    ),
    "messages",
    completes=True,
)
COMPLETIONS = Endpoint(
    "completions", "/v1/completions", _SAMPLING | frozenset({"prompt", "suffix", "echo"}), "prompt", completes=True
)
EMBEDDINGS = Endpoint(
    "embeddings",
    "/v1/embeddings",
    frozenset({"model", "input", "encoding_format", "dimensions"}),
    "input",
    completes=False,
)

ENDPOINTS = {endpoint.name: endpoint for endpoint in (CHAT, COMPLETIONS, EMBEDDINGS)}


@dataclass(slots=True)
class ParsedRequest:
    """What a client asks of a model, as far as the gateway needs to know. Nobody changes it."""

    endpoint: Endpoint
    model: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    prompts: int
    n: int
    """Choices per prompt."""
    text_bytes: int
    """UTF-8 bytes of all that becomes prompt text, syntax included."""
    token_ids: int
    """Prompt tokens given as ids, counted exactly."""
    longest_ids: int
    """The longest single prompt given as ids."""
    media: tuple[dict[str, Any], ...]
    """Pictures, sounds and films: the objects in `fields` that hold them."""
    max_completion: int | None
    """Tokens each choice asks for at most; None where the client did not say."""
    min_completion: int
    """`min_tokens`, or 0."""
    fields: dict[str, Any]
    """The body as parsed, unknown fields and all."""

    @property
    def choices(self) -> int:
        """How many completions it asks for over all prompts."""
        return self.prompts * self.n


def parse(endpoint: Endpoint, body: bytes, maxima: Maxima) -> ParsedRequest:
    """
    Return what `body` asks for.

    Raises: MalformedRequest.
    Bounds: what `engine.protocols.bounds` holds a body to, and `maxima`.
    """
    containers = check_size(body)
    depth_max = maxima.json_depth_max
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"The body is not valid JSON: {error.msg} at byte {error.pos}.") from None
    if not isinstance(fields, dict):
        raise MalformedRequest("The body must be a JSON object.")
    if containers > depth_max and is_deeper(fields, depth_max):
        raise MalformedRequest(f"The body is nested more than {depth_max} levels deep.")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise MalformedRequest("`model` must be a non-empty string.", "model")
    if endpoint.completes:
        check_fields(fields, maxima)
    completion = _completion(endpoint, fields, maxima) if endpoint.completes else _Completion()
    if endpoint is CHAT:
        prompt = prompts.of_chat(fields)
    else:
        suffix = fields.get("suffix") if endpoint is COMPLETIONS else None
        prompt = prompts.of_texts(endpoint.prompt_field, fields.get(endpoint.prompt_field), suffix, maxima.prompts_max)
    ids = prompt.id_lengths
    # In the order of the fields: by their names it costs three times as much.
    return ParsedRequest(
        endpoint,
        model,
        completion.stream,
        completion.include_usage,
        completion.continuous_usage,
        prompt.count,
        completion.n,
        prompt.text_bytes,
        sum(ids),
        max(ids) if ids else 0,
        prompt.media,
        completion.longest,
        completion.shortest,
        fields,
    )


def render(
    request: ParsedRequest, *, model: str, max_completion: int, cache_salt: str, extra_fields: Collection[str]
) -> tuple[bytes, int]:
    """
    Return the body for the engine, and how many fields of the client's were left out.

    Shapes: `model` is the engine's name; `extra_fields` are allowed beyond the endpoint's own.
    """
    endpoint, asked = request.endpoint, request.fields
    passing = endpoint.fields
    if asked.keys() <= passing:
        body = asked.copy()
    else:
        body = {key: value for key, value in asked.items() if key in passing or key in extra_fields}
    removed = len(asked) - len(body)
    body["model"] = model
    body["cache_salt"] = cache_salt
    if endpoint.completes:
        body.pop("max_tokens", None)
        body["max_completion_tokens" if endpoint is CHAT else "max_tokens"] = max_completion
        if request.min_completion:
            body["min_tokens"] = min(request.min_completion, max_completion)
    if request.stream:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    else:
        body.pop("stream_options", None)
    return orjson.dumps(body), removed


class _Completion(NamedTuple):
    """What is asked of the answer; the defaults where nothing is generated."""

    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    n: int = 1
    longest: int | None = None
    shortest: int = 0


def _completion(endpoint: Endpoint, fields: dict[str, Any], maxima: Maxima) -> _Completion:
    stream, options = _streaming(fields)
    _integer(fields, "top_logprobs" if endpoint is CHAT else "logprobs", 0, maxima.logprobs_max)
    if endpoint is CHAT and not isinstance(fields.get("logprobs"), bool | None):
        raise MalformedRequest("`logprobs` must be true or false.", "logprobs")
    return _Completion(
        stream,
        options.get("include_usage") is True,
        options.get("continuous_usage_stats") is True,
        _integer(fields, "n", 1, maxima.n_max) or 1,
        _max_completion(endpoint, fields),
        _integer(fields, "min_tokens", 0, INTEGER_MAX) or 0,
    )


def _streaming(fields: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    stream, options = fields.get("stream"), fields.get("stream_options")
    if stream is not None and not isinstance(stream, bool):
        raise MalformedRequest("`stream` must be true or false.", "stream")
    if options is None:
        return bool(stream), {}
    if not stream:
        raise MalformedRequest("`stream_options` may only be given with `stream: true`.", "stream_options")
    if not isinstance(options, dict):
        raise MalformedRequest("`stream_options` must be an object.", "stream_options")
    return True, options


def _integer(fields: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedRequest(f"`{name}` must be an integer.", name)
    if not low <= value <= high:
        raise MalformedRequest(f"`{name}` must be between {low} and {high}.", name)
    return value


def _max_completion(endpoint: Endpoint, fields: dict[str, Any]) -> int | None:
    legacy = _integer(fields, "max_tokens", 1, INTEGER_MAX)
    if endpoint is not CHAT:
        return legacy
    newer = _integer(fields, "max_completion_tokens", 1, INTEGER_MAX)
    return newer if newer is not None else legacy
