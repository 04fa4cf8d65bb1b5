"""What an exchange costs, to the last digit."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.pricing import PICOS, PRICE_MAX, Price, charge_picos, decimal

LIST = Price(version="2026-11", currency="USD", prompt=2_500_000, cached=1_250_000, completion=10_000_000)
COUNTS = st.integers(0, 10**9)
RATES = st.integers(0, 10**9)


def test_cached_tokens_are_part_of_the_prompt() -> None:
    # 600 computed at 2.50 $, 400 cached at 1.25 $, 50 generated at 10 $ per million: 2.5 thousandths of a dollar.
    assert charge_picos(LIST, 1_000, 400, 50) == (1_500 + 500 + 500) * 1_000_000


def test_forty_requests_of_two_tokens_cost_forty_times_one() -> None:
    cheap = replace(LIST, prompt=20_000)
    one = charge_picos(cheap, 2, 0, 0)
    assert (one, decimal(40 * one)) == (40_000, "0.0000016")


def test_a_free_price_charges_nothing() -> None:
    assert charge_picos(replace(LIST, prompt=0, cached=0, completion=0), 10**9, 10**8, 10**9) == 0


def test_more_cached_than_prompt_never_pays_back() -> None:
    assert charge_picos(LIST, 10, 1_000, 0) == charge_picos(LIST, 10, 10, 0)


def test_the_dearest_exchange_fits_a_record() -> None:
    dearest = replace(LIST, prompt=PRICE_MAX, completion=PRICE_MAX)
    assert charge_picos(dearest, 1_000_000, 0, 8_000_000) < 2**63


@given(prompt=COUNTS, cached_share=st.fractions(0, 1), completion=COUNTS, rates=st.tuples(RATES, RATES, RATES))
def test_equals_decimal_arithmetic(
    prompt: int, cached_share: Fraction, completion: int, rates: tuple[int, int, int]
) -> None:
    cached = int(prompt * cached_share)
    price = Price(version="v", currency="EUR", prompt=rates[0], cached=rates[1], completion=rates[2])
    micros = Decimal((prompt - cached) * rates[0] + cached * rates[1] + completion * rates[2]) / 1_000_000
    assert charge_picos(price, prompt, cached, completion) == micros * 1_000_000


@pytest.mark.parametrize(
    ("picos", "told"),
    [
        (0, "0.000000"),
        (1, "0.000000000001"),
        (-77_000_000, "-0.000077"),
        (PICOS, "1.000000"),
        (1_234_567_890_100_000, "1234.5678901"),
        (10**24 + 1, "1000000000000.000000000001"),
    ],
)
def test_a_decimal_has_all_its_digits_and_at_least_six(picos: int, told: str) -> None:
    assert decimal(picos) == told


@given(st.integers(-(10**30), 10**30))
def test_a_decimal_is_the_amount(picos: int) -> None:
    assert Fraction(decimal(picos)) == Fraction(picos, PICOS)
