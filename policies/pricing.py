"""
The question: what does one exchange cost?

Prices are micro-units of a currency per million tokens, so a token's price is a whole number and nothing is ever a
float. A record is rounded once, over its whole sum: a bill is then the sum of its lines to the last micro-unit.
"""

from dataclasses import dataclass

_TOKENS_PRICED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """
    One line of the price book, as it is stamped on a reservation.

    Units: micro-units of `currency` per million tokens; 0 is free.
    """

    version: str
    currency: str
    """ISO 4217."""
    prompt: int
    """Prompt tokens that the engine computed."""
    cached: int
    """Prompt tokens that the prefix cache held."""
    completion: int


def charge_micros(price: Price, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """
    Price one exchange, rounded half-even once.

    More cached tokens than prompt tokens cannot be: an engine that says so is believed up to the prompt.

    Units: tokens, micro-units of `price.currency`.
    Bounds: 0 <= every argument, so 0 <= charge.
    """
    if not (prompt_tokens or completion_tokens):
        return 0
    cached = min(cached_tokens, prompt_tokens)
    computed = prompt_tokens - cached
    cost = computed * price.prompt + cached * price.cached + completion_tokens * price.completion
    return _half_even(cost, _TOKENS_PRICED)


def _half_even(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    past_half = 2 * remainder - denominator
    rounds_up = past_half > 0 or (past_half == 0 and quotient % 2 == 1)
    return quotient + rounds_up
