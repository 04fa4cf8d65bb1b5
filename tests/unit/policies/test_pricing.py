"""What an exchange costs, to the micro-unit."""

from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pricing import Price, charge_micros

LIST = Price(version="2026-11", currency="USD", prompt=2_500_000, cached=1_250_000, completion=10_000_000)
COUNTS = st.integers(0, 10**9)
RATES = st.integers(0, 10**9)


def test_cached_tokens_are_part_of_the_prompt() -> None:
    # 600 computed at 2.50 $, 400 cached at 1.25 $, 50 generated at 10 $ per million.
    assert charge_micros(LIST, 1_000, 400, 50) == 1_500 + 500 + 500


@pytest.mark.parametrize(
    ("prompt_tokens", "charged"),
    [(1, 0), (2, 1), (3, 2), (5, 2), (6, 3), (7, 4)],
    ids=["0.5 to 0", "1.0", "1.5 to 2", "2.5 to 2", "3.0", "3.5 to 4"],
)
def test_a_half_goes_to_the_even_neighbour(prompt_tokens: int, charged: int) -> None:
    half_a_micro = replace(LIST, prompt=500_000)
    assert charge_micros(half_a_micro, prompt_tokens, 0, 0) == charged


def test_is_rounded_once_over_the_sum() -> None:
    thirds = replace(LIST, prompt=400_000, cached=400_000, completion=400_000)
    # 0.4 + 0.4 + 0.4 = 1.2: rounding each part would make it free.
    assert charge_micros(thirds, 2, 1, 1) == 1


def test_a_free_price_charges_nothing() -> None:
    assert charge_micros(replace(LIST, prompt=0, cached=0, completion=0), 10**9, 10**8, 10**9) == 0


def test_more_cached_than_prompt_never_pays_back() -> None:
    assert charge_micros(LIST, 10, 1_000, 0) == charge_micros(LIST, 10, 10, 0)


@given(prompt=COUNTS, cached_share=st.fractions(0, 1), completion=COUNTS, rates=st.tuples(RATES, RATES, RATES))
def test_equals_decimal_arithmetic(
    prompt: int, cached_share: Fraction, completion: int, rates: tuple[int, int, int]
) -> None:
    cached = int(prompt * cached_share)
    price = Price(version="v", currency="EUR", prompt=rates[0], cached=rates[1], completion=rates[2])
    exact = Decimal((prompt - cached) * rates[0] + cached * rates[1] + completion * rates[2]) / 1_000_000
    assert charge_micros(price, prompt, cached, completion) == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))
