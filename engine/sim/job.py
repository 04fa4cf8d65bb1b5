"""
A request, checked and tokenized: what vLLM's API server does before the engine hears of it.

Rules: `max_completion_tokens` wins over `max_tokens`; without either chat may fill the context and completions get 16;
prompt and limit together are clamped to the context; a prompt that leaves no room is refused, with stream as well; too
many logprobs are refused only after the 200 head of a stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.sim import tokens
from engine.sim.body import Body, check, check_length, missing
from engine.sim.config import SimConfig
from engine.sim.rejection import BadParameter

DEFAULT_COMPLETION_TOKENS = 16
MAX_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class SimJob:
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


def chat_job(body: Body, config: SimConfig) -> SimJob:
    """Check and tokenize a body of /v1/chat/completions."""
    if "messages" not in body:
        raise missing("messages", body)
    check(body, config)
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


def completion_job(body: Body, config: SimConfig) -> SimJob:
    """Check and tokenize a body of /v1/completions."""
    check(body, config)
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
    if not isinstance(prompt, list):
        raise TypeError("a prompt is a text, token ids, or a list of either")
    if all(isinstance(one, int) for one in prompt):
        return [list(prompt)]
    return [tokens.encode(one) if isinstance(one, str) else list(one) for one in prompt]


def _job(body: Body, config: SimConfig, prompts: Sequence[list[int]], ask: tuple[int, int | None]) -> SimJob:
    limit, logprobs = ask
    for prompt in prompts:
        check_length(len(prompt), config)
    stream = bool(body.get("stream"))
    if logprobs is not None and logprobs > MAX_LOGPROBS:
        message = f"Requested sample logprobs of {logprobs}, which is greater than max allowed: {MAX_LOGPROBS}"
        raise BadParameter(message, "logprobs", logprobs, in_band=stream)
    allowed = tuple(min(limit, config.max_model_len - len(prompt)) for prompt in prompts)
    min_tokens = int(body.get("min_tokens") or 0)
    if min_tokens > min(allowed):
        raise BadParameter(f"min_tokens must be less than or equal to max_tokens={min(allowed)}, got {min_tokens}.")
    options = body.get("stream_options") or {}
    stop, salt = body.get("stop") or (), body.get("cache_salt")
    if not all(isinstance(one, str) for one in stop) or not isinstance(salt, str | None):
        raise TypeError("stop and cache_salt are texts")
    return SimJob(
        prompts=tuple(map(tuple, prompts)),
        n=int(body.get("n") or 1),
        max_tokens=allowed,
        min_tokens=min_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        ignore_eos=bool(body.get("ignore_eos")),
        seed=int(body.get("seed") or 0),
        salt=salt,
        logprobs=logprobs,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
    )


def _text_of(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part.get("type") != "text" for part in content):
        raise BadParameter("At most 0 image(s) may be provided in one prompt.")
    return "\n".join(part["text"] for part in content)
