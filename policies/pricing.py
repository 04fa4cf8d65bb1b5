"""
The question: what does one exchange cost?

Prices are micro-units of a currency per million tokens, so a token costs a whole number of pico-units (10^-12) and a
charge is exact: tokens times price. Nothing is divided and nothing rounds, however small a request is; a bill is the
sum of its lines because each of them is what it is.
"""

from dataclasses import dataclass

PICOS = 10**12
"""Pico-units in one unit of a currency."""
_MICRO = 10**6
PRICE_MAX = 10**12
"""A token costs at most one unit: 9 million tokens of one exchange stay below 2^63, the most that a record holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """
    One line of the price book, as it is stamped on a reservation.

    Units: micro-units of `currency` per million tokens, which is pico-units per token; 0 is free.
    Bounds: 0 to PRICE_MAX.
    """

    version: str
    currency: str
    """ISO 4217."""
    prompt: int
    """Prompt tokens that the engine computed."""
    cached: int
    """Prompt tokens that the prefix cache held."""
    completion: int


def charge_picos(price: Price, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """
    Price one exchange, exactly.

    More cached tokens than prompt tokens cannot be: an engine that says so is believed up to the prompt.

    Units: tokens, pico-units of `price.currency`.
    Bounds: 0 <= every argument, so 0 <= charge.
    """
    cached = min(cached_tokens, prompt_tokens)
    return (prompt_tokens - cached) * price.prompt + cached * price.cached + completion_tokens * price.completion


def decimal(picos: int) -> str:
    """Return an amount in units of its currency: all its digits, at least six of them behind the point."""
    if picos < 0:
        return f"-{decimal(-picos)}"
    micros, rest = divmod(picos, _MICRO)
    whole, part = divmod(micros, _MICRO)
    if not rest:
        return f"{whole}.{part:06}"
    return f"{whole}.{part:06}{rest:06}".rstrip("0")
