"""
What a client is told of the cost of its answer: `x-tollway-charge: 0.000777 USD`, a decimal with all its digits.

An answer in one piece has it among its headers. The head of a stream is long gone when its charge is known: a client
that sends `x-tollway-charge: stream` gets it as a comment before `[DONE]`, behind the frame with the usage.

Rules: what is told is what was billed, and is told once it is. Where the model has no price, nothing is told.
"""

from collections.abc import Sequence

from policies.pricing import decimal
from proxy.billing.record import ExchangeRecord
from proxy.http.downstream import Downstream

_HEADER = "x-tollway-charge"


def tell_charge(downstream: Downstream, end: Sequence[bytes], record: ExchangeRecord) -> Sequence[bytes]:
    """Return the end of an answer with its charge before it: of a stream a comment, else a line of the head."""
    told = f"{_HEADER}: {decimal(record.charge_picos)} {record.currency}"
    if downstream.started:
        return (f": {told}\n\n".encode(), *end)
    downstream.add(f"{told}\r\n".encode())
    return end
