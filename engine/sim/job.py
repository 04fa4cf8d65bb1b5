"""
A request, checked and tokenized: what vLLM's API server does before the engine hears of it.

Rules: the checks and their words are the recorded ones; a missing `model` is accepted; `max_completion_tokens` wins
over `max_tokens`; without either chat may fill the context and completions get 16; prompt and limit together are
clamped to the context; a prompt that leaves no room is refused, with stream as well; too many logprobs are refused only
after the 200 head of a stream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.sim import tokens
from engine.sim.config import SimConfig
from engine.sim.rejection import BadParameter, UnknownModel, Unprocessable

Body = Mapping[str, Any]

DEFAULT_COMPLETION_TOKENS = 16
MAX_LOGPROBS = 20
_INTEGERS = ("max_tokens", "max_completion_tokens", "min_tokens", "n", "top_logprobs", "seed")


@dataclass(frozen=True, slots=True)
class Job:
    """What one generation request asks for."""

    prompts: tuple[tuple[int, ...], ...]
    """Token ids, one prompt each."""

    n: int
    max_tokens: tuple[int, ...]
    """Per prompt: what was asked for, within what the context leaves."""

    min_tokens: int
    stop: tuple[str, ...]
    ignore_eos: bool
    seed: int
    salt: str | None
    logprobs: int | None
    """How many alternatives per token; None: no logprobs."""

    stream: bool
    include_usage: bool
    continuous_usage: bool
    """A usage in every frame; only together with `include_usage`."""


def parse_body(raw: bytes, content_type: str) -> Body:
    """
    Return the JSON object of a request.

    Raises: Unprocessable, as vLLM's framework words it.
    """
    if content_type.partition(";")[0].strip() != "application/json":
        raise Unprocessable("Unsupported Media Type: Only 'application/json' is allowed")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = _parse_slowly(raw)
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise Unprocessable(_fault("model_attributes_type", "body", message, body), "body")
    return body


def chat_job(body: Body, config: SimConfig) -> Job:
    """Check and tokenize a body of /v1/chat/completions."""
    if "messages" not in body:
        raise Unprocessable(_fault("missing", "body.messages", "Field required", body), "body.messages")
    _check(body, config)
    if body.get("tools") and body.get("tool_choice", "auto") == "auto":
        raise BadParameter('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    messages = [(str(message.get("role")), _text_of(message.get("content"))) for message in body["messages"]]
    if not messages:
        raise BadParameter("Cannot apply chat template to an empty conversation. Provide at least one message.")
    prompt = tokens.encode_chat(messages)
    limit = body.get("max_completion_tokens")
    limit = body.get("max_tokens") if limit is None else limit
    logprobs = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
    return _job(body, config, [prompt], (config.max_model_len if limit is None else int(limit), logprobs))


def completion_job(body: Body, config: SimConfig) -> Job:
    """Check and tokenize a body of /v1/completions."""
    _check(body, config)
    prompt = body.get("prompt")
    if not prompt:
        raise BadParameter("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    limit = body.get("max_tokens")
    limit = DEFAULT_COMPLETION_TOKENS if limit is None else int(limit)
    return _job(body, config, prompts_of(prompt), (limit, body.get("logprobs")))


def prompts_of(prompt: Any) -> list[list[int]]:
    """Return the token ids of a text, of token ids, or of a list of either."""
    if isinstance(prompt, str):
        return [tokens.encode(prompt)]
    if all(isinstance(one, int) for one in prompt):
        return [list(prompt)]
    return [tokens.encode(one) if isinstance(one, str) else list(one) for one in prompt]


def check_model(body: Body, config: SimConfig) -> None:
    """Refuse a model that is not served."""
    model = body.get("model")
    if model is not None and model not in config.models:
        raise UnknownModel(model, config.models)


def _job(body: Body, config: SimConfig, prompts: Sequence[list[int]], ask: tuple[int, int | None]) -> Job:
    limit, logprobs = ask
    for prompt in prompts:
        _check_length(len(prompt), config)
    stream = bool(body.get("stream"))
    if logprobs is not None and logprobs > MAX_LOGPROBS:
        message = f"Requested sample logprobs of {logprobs}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise BadParameter(message, "logprobs", logprobs, in_band=stream)
    allowed = tuple(min(limit, config.max_model_len - len(prompt)) for prompt in prompts)
    min_tokens = int(body.get("min_tokens") or 0)
    if min_tokens > min(allowed):
        raise BadParameter(f"min_tokens must be less than or equal to max_tokens={min(allowed)}, got {min_tokens}.")
    options = body.get("stream_options") or {}
    stop = body.get("stop") or ()
    return Job(
        prompts=tuple(map(tuple, prompts)),
        n=int(body.get("n") or 1),
        max_tokens=allowed,
        min_tokens=min_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        ignore_eos=bool(body.get("ignore_eos")),
        seed=int(body.get("seed") or 0),
        salt=body.get("cache_salt"),
        logprobs=logprobs,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
    )


def _check(body: Body, config: SimConfig) -> None:
    _check_integers(body)
    if body.get("stream_options") and not body.get("stream"):
        raise BadParameter("Stream options can only be defined when `stream=True`.", "stream_options")
    check_model(body, config)
    _check_sampling(body)
    for field in ("max_tokens", "max_completion_tokens"):
        _check_limit(body.get(field), config)


def _check_integers(body: Body) -> None:
    for field in _INTEGERS:
        value = body.get(field)
        if isinstance(value, str) and not value.lstrip("+-").isdigit():
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise Unprocessable(_fault("int_parsing", f"body.{field}", message, value), f"body.{field}")


def _check_sampling(body: Body) -> None:
    n, temperature = body.get("n"), body.get("temperature")
    if n is not None and int(n) < 1:
        raise BadParameter(f"n must be at least 1, got {n}.")
    if temperature is not None and temperature < 0:
        message = f"temperature must be non-negative, got {float(temperature)}."
        raise BadParameter(message, "temperature", float(temperature))
    if temperature == 0 and n is not None and int(n) > 1:
        raise BadParameter(f"n must be 1 when using greedy sampling, got {n}.")


def _check_limit(limit: Any, config: SimConfig) -> None:
    if limit is None:
        return
    if int(limit) < 1:
        raise BadParameter(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if int(limit) > config.max_model_len:
        message = f"max_tokens={limit} cannot be greater than max_model_len={config.max_model_len}. "
        raise BadParameter(message + "Please request fewer output tokens.", "max_tokens", limit)


def _check_length(prompt_tokens: int, config: SimConfig) -> None:
    if prompt_tokens < config.max_model_len:
        return
    over = config.max_model_len + 1
    message = (
        f"This model's maximum context length is {config.max_model_len} tokens. However, your prompt contains at least "
        f"{over} input tokens, which exceeds this limit even without any output tokens. "
        "Please reduce the length of the input prompt."
    )
    raise BadParameter(message, "input_tokens", over)


def _text_of(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part.get("type") != "text" for part in content):
        raise BadParameter("At most 0 image(s) may be provided in one prompt.")
    return "\n".join(part["text"] for part in content)


def _parse_slowly(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else error.start
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error.reason
        fault = _fault("json_invalid", f"body.{position}", "JSON decode error", {})
        raise Unprocessable(fault | {"ctx": {"error": reason}}, f"body.{position}") from None


def _fault(kind: str, loc: str, message: str, given: object) -> dict[str, Any]:
    shown = f"<{type(given).__name__} of {len(given)} items>" if isinstance(given, dict | list) else given
    return {"type": kind, "loc": loc, "msg": message, "input": shown}
