"""
A request's body before it is tokenized: JSON, its fields, and what vLLM refuses of them.

Rules: the checks and their words are the recorded ones; a missing `model` is accepted.

Source: the recorded transcripts 300 to 327.
"""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from engine.sim.config import SimConfig
from engine.sim.rejection import BadParameter, UnknownModel, Unprocessable

Body = Mapping[str, Any]

_INTEGERS = ("max_tokens", "max_completion_tokens", "min_tokens", "n", "top_logprobs", "seed")


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


def check(body: Body, config: SimConfig) -> None:
    """
    Check what the generation endpoints have in common.

    Raises: Rejection.
    """
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


def check_model(body: Body, config: SimConfig) -> None:
    """Refuse a model that is not served."""
    model = body.get("model")
    if model is not None and model not in config.models:
        raise UnknownModel(model, config.models)


def check_length(prompt_tokens: int, config: SimConfig) -> None:
    """Refuse a prompt that leaves no room for a token."""
    if prompt_tokens < config.max_model_len:
        return
    over = config.max_model_len + 1
    message = (
        f"This model's maximum context length is {config.max_model_len} tokens. However, your prompt contains at least "
        f"{over} input tokens, which exceeds this limit even without any output tokens. "
        "Please reduce the length of the input prompt."
    )
    raise BadParameter(message, "input_tokens", over)


def missing(field: str, body: Body) -> Unprocessable:
    """Return the refusal of a body that lacks a field."""
    return Unprocessable(_fault("missing", f"body.{field}", "Field required", body), f"body.{field}")


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
