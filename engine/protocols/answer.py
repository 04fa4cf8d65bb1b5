"""
An answer in one piece: what it used, and whether the engine gave it up.

Decision: one that is not small is read by bytes: its end is parsed, where vLLM writes the usage, and all before it is
only searched for the word that a choice was given up.
Because parsing 32 MB keeps the event loop for half a second, and what goes on is what came anyway.
Instead of parsing it in a thread, which holds the interpreter as long.

What proves that a usage is the answer's own, and no text's and no inner object's: a quote inside a text is escaped, so
the key is one, and what follows it is whole JSON up to the answer's last brace, so that it is the outermost object's.

Source: vLLM 0.32's answers of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`, in tests/data.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from engine.faults import Unreadable, UpstreamBroken
from engine.protocols.base import Answer
from engine.protocols.usage import Usage, usage_of

_PARSED_BYTES_MAX = 16 * 1024
"""Parsed whole: that takes a tenth of a millisecond."""
_END_BYTES = 64 * 1024
"""Of a larger one, in which its usage must stand."""
_KEYS_MAX = 8
"""Looked at from its end: names and texts there may be the word as well."""
_KEY = b'"usage"'
_BEFORE_KEYS = b",{ \t\r\n"
_SPACED = b'"usage": '
"""How who writes a space behind a colon writes the key."""
_ABORTS = (b'"finish_reason":"abort"', b'"finish_reason": "abort"')
_NO_TEXTS = (b'"text":""', b'"text": ""')
_TEXTS = frozenset({"text", "content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal"})
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"(?!abort")[a-z_]+"')
_EMBEDDED = b'"embedding"'
_USAGE = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')


def read_answer(parts: Sequence[bytes], *, prompts: int, generates: bool = True) -> Answer:
    """
    Return what the answer to so many prompts says, which came in these parts.

    What `generates` has used a token where it has any text, and everything else some of its prompt.

    Raises: UpstreamBroken, for what vLLM does not send; Unreadable, where the work behind it is done all the same.
    Bounds: what is not small is searched at 4 GB a second, and `_END_BYTES` of it are parsed.
    """
    is_small = sum(map(len, parts)) <= _PARSED_BYTES_MAX
    try:
        answer = _parsed(b"".join(parts), prompts) if is_small else _read(parts, prompts)
        if answer.usage.completion_tokens or answer.aborted:
            return answer
        return answer if _is_counted(parts, answer.usage, generates=generates) else Answer(Usage(), aborted=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # What is large is no error of an engine that has not worked.
        raise (unread(b"".join(parts)) if is_small else Unreadable("a large answer cannot be read")) from error


def _parsed(body: bytes, prompts: int) -> Answer:
    answer = orjson.loads(body)
    choices = answer.get("choices", ())
    usage = usage_of(_told(answer))
    if "abort" not in [choice.get("finish_reason") for choice in choices]:
        return Answer(usage, aborted=False)
    all_begun = prompts == 1 or all(choice.get("text") for choice in choices)
    return Answer(_proven(usage, all_begun=all_begun), aborted=True)


def _is_counted(parts: Sequence[bytes], usage: Usage, *, generates: bool) -> bool:
    """Tell whether an answer that says of no token it generated has indeed none."""
    if not usage.prompt_tokens or not generates:
        return usage.prompt_tokens > 0
    body = b"".join(parts)
    return len(body) <= _PARSED_BYTES_MAX and not any(map(_has_text, orjson.loads(body).get("choices", ())))


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's usage, or an empty one where it has all but that; raise `KeyError` where it has nothing."""
    told: dict[str, Any] = answer.get("usage") or {}
    if told or answer.get("data") or any(choice["finish_reason"] for choice in answer.get("choices") or ()):
        return told
    raise KeyError("usage")


def _has_text(choice: dict[str, Any]) -> bool:
    message = choice.get("message") or choice
    return any(value for name, value in message.items() if name in _TEXTS)


def _read(parts: Sequence[bytes], prompts: int) -> Answer:
    """Return the same of an answer that is not parsed."""
    if not parts[0].lstrip().startswith(b"{"):
        raise ValueError("the answer is no object")
    end = _end_of(parts)
    usage = usage_of(_usage_in(end))
    spelt = _SPACED in end
    if not _holds(parts, _ABORTS[spelt]):
        return Answer(usage, aborted=False)
    all_begun = prompts == 1 or not _holds(parts, _NO_TEXTS[spelt])
    return Answer(_proven(usage, all_begun=all_begun), aborted=True)


def _end_of(parts: Sequence[bytes]) -> bytes:
    end, size = [], 0
    for part in reversed(parts):
        end.append(part[-_END_BYTES:])
        size += len(part)
        if size >= _END_BYTES:
            break
    return b"".join(reversed(end))


def _usage_in(end: bytes) -> Any:
    """Return the usage of the object that ends here; raise `ValueError` where there is none."""
    at = len(end)
    for _ in range(_KEYS_MAX):
        at = end.rfind(_KEY, 0, at)
        if at < 1:
            break
        if end[at - 1] in _BEFORE_KEYS and (rest := _object(b"{" + end[at:])):
            return rest["usage"]
    raise ValueError("the answer does not end with its usage")


def _object(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _holds(parts: Sequence[bytes], wanted: bytes) -> bool:
    """Tell whether the parts together hold these bytes; from behind, because that is three times as fast."""
    across = len(wanted) - 1
    before = b""
    for part in parts:
        if part.rfind(wanted) >= 0 or wanted in before + part[:across]:
            return True
        before = (before + part[-across:])[-across:]
    return False


def _proven(usage: Usage, *, all_begun: bool) -> Usage:
    """Return what of an aborted answer was computed: a prompt counts with its first token."""
    if not usage.completion_tokens:
        return Usage()
    return usage if all_begun else Usage(completion_tokens=usage.completion_tokens)


def is_finished(body: bytes) -> bool:
    """Tell whether an answer, or a part of a stream, says of a choice that it came to its end."""
    return _FINISHED.search(body) is not None


def unread(body: bytes) -> UpstreamBroken:
    """Return what an answer, or a part of a stream, is that cannot be read: whether its engine had come to an end."""
    if not is_finished(body) and _EMBEDDED not in body:
        return UpstreamBroken("the answer is not what vLLM sends")
    return Unreadable("the answer is whole and cannot be read", tokens=_tokens(body))


def _tokens(body: bytes) -> int:
    """Return what an answer that cannot be read says it used; 0 where not even that can be read."""
    told = _USAGE.findall(body)
    try:
        usage = usage_of(orjson.loads(told[-1])) if told else Usage()
    except ValueError:
        return 0
    return usage.prompt_tokens + usage.completion_tokens
