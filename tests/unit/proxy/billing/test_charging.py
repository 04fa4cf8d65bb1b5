"""A price put on a record."""

from policies.pricing import Price
from proxy.billing.charging import charged
from tests.records import RECORD

PRICE = Price(version="2026-12", currency="EUR", prompt=10_000_000, cached=5_000_000, completion=20_000_000)
UNPRICED = RECORD._replace(price_version="", charge_picos=0, currency="")


def test_a_record_carries_its_charge_and_the_price_that_explains_it() -> None:
    # 88 computed, 32 cached, 11 generated.
    priced = RECORD._replace(price_version="2026-12", currency="EUR", charge_picos=(880 + 160 + 220) * 1_000_000)
    assert charged(UNPRICED, PRICE) == priced


def test_a_model_without_a_price_costs_nothing() -> None:
    assert charged(UNPRICED, None) == UNPRICED
