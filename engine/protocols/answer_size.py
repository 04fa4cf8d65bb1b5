"""
How large an answer can get, from what its request asks for: what is over a bound is refused before any engine works.

Each token of an answer has its text and, where they are asked, logprobs: of the token and of so many others that might
have stood in its place. An `echo` shows the prompt before each choice, in a stream as one frame.

Bounds: those of what is read. An entry of logprobs is the name of a field, a number of some 20 digits, and the token
twice, as text and as a list of bytes; what a token has beyond the bytes counted here only tokens of an odd vocabulary
have on average.
"""

from collections.abc import Collection

from engine.faults import MalformedRequest
from engine.protocols.base import ParsedRequest
from engine.protocols.bounds import ESCAPED
from engine.protocols.fields import INTEGER_MAX, integer
from engine.wire.sse import FRAME_BYTES_MAX

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Of an answer in one piece."""
_TOKEN_BYTES = 32
"""A token's text as JSON."""
_ENTRY_BYTES = 128
"""One entry of logprobs."""
_NUMBER_BYTES = 24
"""A number of a vector, and what stands between two."""
_BASE64_NUMBER_BYTES = 6
_VECTOR_BYTES = 128
"""What stands around a vector."""
_OFTEN_BYTES = 16 * 1024
"""A vector of 1,024 numbers or so."""


_GENERATED = "`n`, `max_tokens`, `logprobs`, `top_logprobs` or `echo`, or a shorter prompt"
_EMBEDDED = "`dimensions`, or fewer inputs"


def check_completion(
    request: ParsedRequest, entries: int, *, max_completion: int, context_tokens: int, extra_fields: Collection[str]
) -> int:
    """
    Return how large an answer in one piece can get, 0 for a stream; raise `MalformedRequest` where it is not read.

    `entries` is how many there are of logprobs for each token.
    """
    echo = request.fields.get("echo")
    if request.stream and not echo:
        return 0
    size = request.choices * max_completion * (_TOKEN_BYTES + entries * _ENTRY_BYTES)
    if echo or "prompt_logprobs" in extra_fields:
        shown = _shown(request, entries if echo else 0, context_tokens, extra_fields)
        if request.stream:
            _check(shown, FRAME_BYTES_MAX, "A frame of the stream", lessened=_GENERATED, param="echo")
        size += request.n * shown
    if not request.stream:
        _check(size, ANSWER_BYTES_MAX, "The answer", lessened=_GENERATED, param="logprobs" if entries else "n")
    return 0 if request.stream else size


def check_embeddings(request: ParsedRequest) -> int:
    """
    Return how large the answer can get, by what vectors often are where the request does not say how long they are.

    Raises: MalformedRequest, where it is not read.
    """
    dimensions = integer(request.fields, "dimensions", 1, INTEGER_MAX)
    if dimensions is None:
        return min(ANSWER_BYTES_MAX, request.prompts * _OFTEN_BYTES)
    number = _BASE64_NUMBER_BYTES if request.fields.get("encoding_format") == "base64" else _NUMBER_BYTES
    size = request.prompts * (_VECTOR_BYTES + dimensions * number)
    _check(size, ANSWER_BYTES_MAX, "The answer", lessened=_EMBEDDED, param="dimensions")
    return size


def _shown(request: ParsedRequest, entries: int, context_tokens: int, extra_fields: Collection[str]) -> int:
    """Return the bytes of all prompts as an answer shows them, with so many entries of logprobs for each token."""
    fields, prompt = request.fields, request.prompt
    if "prompt_logprobs" in extra_fields and (asked := integer(fields, "prompt_logprobs", 0, INTEGER_MAX)) is not None:
        entries += 1 + asked
    tokens = min(prompt.text_bytes + prompt.token_ids, prompt.count * context_tokens)
    text = prompt.text_bytes * ESCAPED + prompt.token_ids * _TOKEN_BYTES if fields.get("echo") else 0
    return text + tokens * entries * _ENTRY_BYTES


def _check(size: int, size_max: int, what: str, *, lessened: str, param: str) -> None:
    if size > size_max:
        message = f"{what} may have {size} bytes; at most {size_max} are read. Ask for less by {lessened}."
        raise MalformedRequest(message, param)
