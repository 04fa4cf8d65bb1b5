"""Puts the price on what was used."""

from typing import NamedTuple

from engine.protocols.usage import Usage
from policies.pricing import Price, charge_micros
from proxy.billing.record import ExchangeRecord


class Charge(NamedTuple):
    """What a record says of its price; of none, nothing."""

    price_version: str = ""
    charge_micros: int = 0
    currency: str = ""


def charge_for(price: Price | None, usage: Usage) -> Charge:
    """Return what `usage` costs by `price`; no price costs nothing."""
    return Charge(price.version, charge_micros(price, *usage), price.currency) if price else Charge()


def charged(record: ExchangeRecord, price: Price | None) -> ExchangeRecord:
    """Return the record with what its tokens cost by `price`, and the version of it."""
    usage = Usage(record.prompt_tokens, record.cached_tokens, record.completion_tokens)
    return record._replace(**charge_for(price, usage)._asdict())
