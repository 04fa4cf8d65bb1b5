"""Puts the price on a record."""

from dataclasses import replace

from policies.pricing import Price, charge_micros
from proxy.billing.record import ExchangeRecord


def charged(record: ExchangeRecord, price: Price | None) -> ExchangeRecord:
    """Return the record with what its tokens cost by `price`, and the version of it; no price costs nothing."""
    if price is None:
        return record
    charge = charge_micros(price, record.prompt_tokens, record.cached_tokens, record.completion_tokens)
    return replace(record, price_version=price.version, currency=price.currency, charge_micros=charge)
