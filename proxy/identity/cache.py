"""
Tokens that were judged before: a token is verified once and then looked up, since a signature costs 100 times more.

Rules:
- A good token is believed only within its own times, as long as its key is its issuer's, and while nobody revoked it.
- A bad one is refused again for a few seconds, for a client in a loop; never one that may become good meanwhile.
- The least recently used goes first. Tokens are the keys: a digest of one costs five times the lookup, and each is in
  memory anyway as the header of its request. None is ever logged.

Bounds: by entries and by characters, whichever is reached first.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy.identity.keys import VerifyingKey
from proxy.identity.revocation import Origin

VERIFIED_MAX, VERIFIED_CHARS_MAX = 131_072, 64 * 2**20
"""As many users as a fleet serves at a time; full, about 64 MB of tokens and as much beside them."""
REFUSED_MAX, REFUSED_CHARS_MAX = 4_096, 4 * 2**20
REFUSED_S = 10.0
"""For how long a bad token is refused unseen."""

_Known = TypeVar("_Known")


@dataclass(slots=True)
class Verified:
    """What a token proved, and for how long. Units: seconds since the epoch, leeway included."""

    origin: Origin
    key: VerifyingKey
    valid_from: float
    valid_until: float
    judged: int = -1
    """The version of the list of revocations that did not have it."""

    def holds(self, now: float) -> bool:
        """Tell whether the token is as good as when it was verified."""
        return self.valid_from <= now < self.valid_until and not self.key.retired


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a token was refused, and until when nobody looks again."""

    message: str
    until: float


class Tokens(Generic[_Known]):
    """What is known of the tokens seen last."""

    def __init__(self, entries_max: int, chars_max: int) -> None:
        self._entries_max = entries_max
        self._chars_max = chars_max
        self._chars = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def __len__(self) -> int:
        """Return how many tokens are known."""
        return len(self._known)

    def find(self, token: str) -> _Known | None:
        """Return what is known of a token."""
        known = self._known.get(token)
        if known is not None:
            self._known.move_to_end(token)
        return known

    def keep(self, token: str, known: _Known) -> None:
        """Remember a token; forget what was not asked for longest."""
        if token not in self._known:
            self._chars += len(token)
        self._known[token] = known
        self._known.move_to_end(token)
        while len(self._known) > self._entries_max or self._chars > self._chars_max:
            forgotten, _ = self._known.popitem(last=False)
            self._chars -= len(forgotten)

    def forget(self, token: str) -> None:
        """Forget a token."""
        if self._known.pop(token, None) is not None:
            self._chars -= len(token)
