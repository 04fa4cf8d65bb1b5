"""
What an engine says it has used.

vLLM 0.32 puts `"usage":{...}` into every frame when asked for continuous statistics: of that frame's choice so far.
Only the last frame (`"choices":[]`) sums over the choices and knows the cached tokens. A sum without a completion token
is that of a request which was aborted before vLLM began to compute it.
Source: vllm entrypoints/openai/chat_completion/serving.py; the transcripts in tests/data.
"""

from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Tokens of one exchange; `cached_tokens` are a part of the prompt's, `reasoning_tokens` of the completion's."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


def usage_of(value: dict[str, Any]) -> Usage:
    """Return a usage object of the OpenAI API as ours; raise `ValueError` for what no engine says."""
    prompt_tokens, completion_tokens = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    thought = value.get("completion_tokens_details")
    reasoning_tokens = min(completion_tokens, _reasoning(thought)) if thought else 0
    details = value.get("prompt_tokens_details")
    if not details:
        return Usage(prompt_tokens, 0, completion_tokens, reasoning_tokens)
    if not isinstance(details, dict):
        raise ValueError("prompt_tokens_details is no object")
    cached_tokens = min(prompt_tokens, _count(details.get("cached_tokens")))
    return Usage(prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens)


def _reasoning(details: Any) -> int:
    """Return how many tokens were thoughts; 0 where that is not said in a way that we know: nothing is billed by it."""
    tokens = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return tokens if type(tokens) is int and tokens > 0 else 0


def _count(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise ValueError("a token count is no natural number")
    return value


class RunningUsage:
    """
    The usage of a stream so far: the sum over choices of their latest counts, and each prompt once.

    vLLM numbers the choices of a prompt list in turn: choice `i` belongs to prompt `i // n`.
    """

    def __init__(self, n: int, *, scores: bool = False) -> None:
        self._n = n
        self._scores = scores
        """Whether a sum without a completion token is one."""
        self._completions: dict[int, int] = {}
        self._prompts: dict[int, int] = {}
        self._completed = 0
        self._prompted = 0
        self._final: Usage | None = None

    def see(self, choice: int | None, usage: Usage) -> None:
        """Take in the latest usage of one choice, or, with None, the engine's own sum."""
        if choice is None:
            self._final = usage
            return
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        more = completion_tokens - self._completions.get(choice, 0)
        if more > 0 or choice not in self._completions:
            self._completions[choice] = completion_tokens
            self._completed += more
        prompt = choice // self._n
        if (before := self._prompts.get(prompt)) != prompt_tokens:
            self._prompted += prompt_tokens - (before or 0)
            self._prompts[prompt] = prompt_tokens

    @property
    def final(self) -> Usage | None:
        """The engine's own sum, once it was received."""
        return self._final

    @property
    def is_summed(self) -> bool:
        """Whether the engine's own sum was received, and is one of what there was."""
        final = self._final
        return final is not None and (final.prompt_tokens if self._scores else final.completion_tokens) > 0

    @property
    def so_far(self) -> Usage | None:
        """The engine's own sum if there is one, else the running one; None before any usage came."""
        if self._final is not None and (self.is_summed or not self._completed):
            return self._final if self.is_summed else Usage()
        if not self._prompts:
            return None
        return Usage(self._prompted, 0, self._completed)

    @property
    def begun(self) -> set[int]:
        """The prompts of which a token has come."""
        return {choice // self._n for choice, tokens in self._completions.items() if tokens}

    @property
    def proven(self) -> Usage | None:
        """
        What was computed of an aborted stream; None where that is not known.

        What vLLM aborts before its first token it tells with its whole prompt, of which it has computed nothing. So a
        prompt counts with the first token of one of its choices.
        """
        if self._final is None and not any(self._completions.values()):
            return None
        prompt_tokens = sum(self._prompts[prompt] for prompt in self.begun)
        if self._final is not None and self._final.prompt_tokens == prompt_tokens:
            return self._final
        return Usage(prompt_tokens, 0, sum(self._completions.values()))
