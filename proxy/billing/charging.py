"""Puts the price on what was used."""

from typing import NamedTuple

from engine.protocols.usage import Usage
from policies.pricing import Price, charge_picos
from proxy.billing.record import ExchangeRecord


class Charge(NamedTuple):
    """What a record says of its price; of none, nothing."""

    price_version: str = ""
    charge_picos: int = 0
    currency: str = ""


_NO_CHARGE = Charge()


def charge_for(price: Price | None, usage: Usage) -> Charge:
    """Return what `usage` costs by `price`; no price costs nothing."""
    if price is None:
        return _NO_CHARGE
    picos = charge_picos(price, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return Charge(price.version, picos, price.currency)


def charged(record: ExchangeRecord, price: Price | None) -> ExchangeRecord:
    """Return the record with what its tokens cost by `price`, and the version of it."""
    usage = Usage(record.prompt_tokens, record.cached_tokens, record.completion_tokens)
    return record._replace(**charge_for(price, usage)._asdict())
