"""
The tokens of each user, of whom there may be very many.

Decision: all numbers in one array, counted up in place, instead of a `Sum` for each.
Because a number that is made anew at each count stays in the heap until the same user's next one, in the midst of what
the requests between the two make and forget; and a user costs a name and a place instead of eleven objects.

Rules: as in `series`.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from proxy.billing.record import ExchangeRecord
from proxy.observe.definitions import TOKEN_KINDS, USER_TOKENS

OTHER_USERS = "other"
"""The `user` of everybody beyond the cap."""


class UserTokens(Collector):
    """
    A counter of prompt, cached and completion tokens by tenant and user.

    Bounds: `series_max` pairs of tenant and user get series of their own, first come; all others of a tenant are summed
    in `user="other"`, so that the sum over its users stays exact.
    """

    def __init__(self, series_max: int) -> None:
        self.series_max = series_max
        self._named = 0
        self._places: dict[str, dict[str, int]] = defaultdict(dict)
        """By tenant and user, where their three numbers begin."""
        self._numbers = array("q")

    def add(self, record: ExchangeRecord) -> None:
        """Count what the record bills, as far as it is no credit."""
        places = self._places[record.tenant]
        at = places.get(record.user)
        if at is None:
            at = self._place(places, record.user)
        numbers = self._numbers
        if record.prompt_tokens > 0:
            numbers[at] += record.prompt_tokens
        if record.cached_tokens > 0:
            numbers[at + 1] += record.cached_tokens
        if record.completion_tokens > 0:
            numbers[at + 2] += record.completion_tokens

    def _place(self, places: dict[str, int], user: str) -> int:
        if self._named < self.series_max:
            self._named += 1
        elif OTHER_USERS in places:
            return places[OTHER_USERS]
        else:
            user = OTHER_USERS
        at = len(self._numbers)
        self._numbers.extend((0, 0, 0))
        places[user] = at
        return at

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return it as it stands."""
        family = CounterMetricFamily(USER_TOKENS.name, USER_TOKENS.help, labels=USER_TOKENS.labels)
        for tenant, places in tuple(self._places.items()):
            for user, at in tuple(places.items()):
                for kind, number in zip(TOKEN_KINDS, self._numbers[at : at + 3], strict=True):
                    family.add_metric((tenant, user, kind), number)
        yield family
