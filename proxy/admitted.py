"""A request that its limits let in: the call, and what they granted. Frozen once it is reserved."""

from typing import NamedTuple

from engine.protocols.usage import Usage
from policies.quota import Ask, LimitStatus
from policies.routing import Job
from proxy.call import Call


class Admitted(NamedTuple):
    """What every stage behind admit works with. Units: tokens; `at` in seconds of a monotonic clock."""

    call: Call
    asked: Ask
    """What was reserved for the prompts, and how much of an answer was wished for."""
    max_completion: int
    """Granted tokens per choice."""
    statuses: tuple[LimitStatus, ...]
    """How the limits stand now."""
    at: float

    @property
    def ours(self) -> bool:
        """Whether the limit on the completion is not the client's own number."""
        request = self.call.request
        return request.protocol.generates and self.max_completion != request.max_completion

    @property
    def completion_tokens_max(self) -> int:
        """What all choices together may have."""
        return self.call.request.choices * self.max_completion

    @property
    def prompt_tokens_max(self) -> int:
        """What all prompts together may have: the engine refuses a longer one than the context."""
        return self.call.request.prompts * self.call.model.context_tokens

    def spare(self, usage: Usage) -> int:
        """Return what was reserved beyond the prompt, once the engine has counted it; of several, only at the end."""
        if self.call.request.prompts != 1 or not usage.prompt_tokens:
            return 0
        return max(0, self.asked.prompt_tokens - usage.prompt_tokens)

    def job(self) -> Job:
        """Return what the choice of a replica is made for."""
        request = self.call.request
        tokens = request.prompt.token_ids + request.prompt.text_bytes + self.completion_tokens_max
        return Job(self.call.model.name, request.choices, tokens)
