"""
How many forged tokens are looked at: checking a signature costs more than making one up.

A bucket for each address counts the signatures that turned out wrong, and one more counts them all. Where a bucket is
used up, a token that was never verified is not looked at before it has refilled.

Decision: such a token is answered 429 with its wait, and not 401, because nobody judged it: an honest client behind the
same address tries again, as OpenAI's clients do by themselves, and does not throw its token away. And it is hardly
ever met: a token in the cache passes before anything is asked here, and one that *says* it is from a user verified
lately counts in a bucket of that user's at that address, which only somebody who knows the name can use up.

Bounds: buckets and users are kept for the 10,000 seen last.
"""

from collections import OrderedDict
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import Any

from policies.quota import Limit, Per, Scope, Unit
from policies.rate import Rate
from proxy.identity.trusted import Claimed

OF_ONE = Limit(Scope.USER, Unit.REQUESTS, 1_200, Per.MINUTE)
"""Wrong signatures from an address: so many at once, then 20 a second."""
OF_ALL = Limit(Scope.USER, Unit.REQUESTS, 60_000, Per.MINUTE)
"""From everywhere: a tenth of a core with the slowest algorithm."""
KEPT_MAX = 10_000


class Forgeries:
    """Counts wrong signatures by who sent them. Units: `now_us` in microseconds of any clock that never runs back."""

    def __init__(self, of_one: Limit = OF_ONE, of_all: Limit = OF_ALL) -> None:
        self._of_one = of_one
        self._of_all = of_all
        self._all: Rate | None = None
        self._by_sender: OrderedDict[object, Rate] = OrderedDict()
        self._honest: OrderedDict[Claimed, None] = OrderedDict()

    def wait_us(self, address: str, claimed: Claimed, now_us: int) -> int:
        """Return how long a token from this address waits before its signature may be checked; 0 for not at all."""
        wait_us = _wait_us(self._by_sender.get(self._sender(address, claimed)), self._of_one, now_us)
        return wait_us if claimed in self._honest else max(wait_us, _wait_us(self._all, self._of_all, now_us))

    def wrong(self, address: str, claimed: Claimed, now_us: int) -> None:
        """Count a wrong signature."""
        sender = self._sender(address, claimed)
        self._by_sender[sender] = _one_more(self._by_sender.get(sender), self._of_one, now_us)
        _recent(self._by_sender, sender)
        self._all = _one_more(self._all, self._of_all, now_us)

    def right(self, claimed: Claimed) -> None:
        """Remember a user whose token was verified."""
        self._honest[claimed] = None
        _recent(self._honest, claimed)

    def _sender(self, address: str, claimed: Claimed) -> object:
        network = _network(address)
        return (network, claimed) if claimed in self._honest else network


def _network(address: str) -> str:
    """Return what one sender has to himself: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return ip.exploded[:19] if isinstance(ip, IPv6Address) else address


def _wait_us(rate: Rate | None, limit: Limit, now_us: int) -> int:
    if rate is None:
        return 0
    rate = rate.at(limit, now_us)
    return rate.wait_us(limit, 1) if rate.used >= limit.amount else 0


def _one_more(rate: Rate | None, limit: Limit, now_us: int) -> Rate:
    rate = rate.at(limit, now_us) if rate else Rate.unused(now_us)
    return replace(rate, used=min(rate.used + 1, limit.amount))


def _recent(kept: OrderedDict[Any, Any], name: object) -> None:
    kept.move_to_end(name)
    if len(kept) > KEPT_MAX:
        kept.popitem(last=False)
