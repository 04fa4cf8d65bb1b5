"""
The question: how much will this request take, before anyone knows?

The prompt's upper bound holds for every byte-level tokenizer: no token is shorter than one byte, so a text has at most
as many tokens as bytes (in the form the tokenizer reads, which whoever counts the bytes takes care of), and a chat
template adds at most what the operator declares for the model. No prompt is longer than the context, since the engine
refuses it.
"""

HOLD_US_START = 5_000_000
"""The expected time in flight of a model that nobody has called yet."""
_SMOOTHING = 16


def prompt_bound(*, text_bytes: int, token_ids: int, prompts: int, template_tokens: int, context_tokens: int) -> int:
    """
    Return the most tokens that all prompts of a request can have together.

    Units: `text_bytes` of UTF-8 over all prompts; `token_ids` counted exactly; `template_tokens` per prompt.
    """
    return min(text_bytes + token_ids + prompts * template_tokens, prompts * context_tokens)


def smoothed_hold_us(previous_us: int, sample_us: int) -> int:
    """Return the moving average of how long a request is in flight, after one more sample."""
    return previous_us + (sample_us - previous_us) // _SMOOTHING


class HoldTimes:
    """How long requests to each model are in flight, as a moving average in microseconds."""

    def __init__(self) -> None:
        self._us: dict[str, int] = {}

    def expected_us(self, model: str) -> int:
        """Return how long the next request is expected to take."""
        return self._us.get(model, HOLD_US_START)

    def ended(self, model: str, us: int) -> None:
        """Take in how long a request took."""
        self._us[model] = smoothed_hold_us(self.expected_us(model), us)
