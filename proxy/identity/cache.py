"""
Tokens that were judged before: a token is verified once and then looked up, since a signature costs 100 times more.

Rules:
- A good token is believed only within its own times, as long as its key is its issuer's, and while nobody revoked it.
- What one config's verifier found, that of the next looks at again, once, before it believes or refuses.
- A bad one is refused again for a few seconds, for a client in a loop; never one that may become good meanwhile.
- Who was not asked for since its turn came last goes first. Tokens are the keys: a digest of one costs five times the
  lookup, and each is in memory anyway as the header of its request. None is ever logged.

Decision: a second chance for who was asked for, and not the order of use. Because with 100,000 users each entry is cold
in the processor's caches, and to move one within an order touches its neighbours as well; to mark one touches what was
read anyway. For the same reason an entry is few objects, and what only a revocation asks stays in the token.

Bounds: by entries and by characters, whichever is reached first.
"""

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from proxy.identity.keys import VerifyingKey
from proxy.identity.principal import Principal

VERIFIED_MAX, VERIFIED_CHARS_MAX = 131_072, 64 * 2**20
"""As many users as a fleet serves at a time; full, about 64 MB of tokens and as much beside them."""
REFUSED_MAX, REFUSED_CHARS_MAX = 4_096, 4 * 2**20
REFUSED_S = 10.0
"""For how long a bad token is refused unseen."""
SECOND_CHANCES_MAX = 8
"""Given at a time: making room is never a walk through all that is known."""


class _Entry(Protocol):
    asked: bool
    """Whether it was asked for since its turn to go came last."""


_Known = TypeVar("_Known", bound=_Entry)


@dataclass(slots=True)
class Verified:
    """What a token proved, and for how long. Units: seconds since the epoch, leeway included."""

    principal: Principal
    key: VerifyingKey
    valid_from: float
    valid_until: float
    judged: int = -1
    """The version of the list of revocations that did not have it."""
    by: int = 0
    """Which config's verifier it was that believed it."""
    asked: bool = False

    def holds(self, now: float) -> bool:
        """Tell whether the token is as good as when it was verified."""
        return self.valid_from <= now < self.valid_until and not self.key.retired


@dataclass(slots=True)
class RefusedToken:
    """Why a token was refused, and until when nobody looks again."""

    message: str
    what: str
    until: float
    by: int = 0
    """Which config's verifier it was that refused it."""
    asked: bool = False


class Tokens(Generic[_Known]):
    """What is known of the tokens seen last."""

    def __init__(self, entries_max: int, chars_max: int) -> None:
        self._entries_max = entries_max
        self._chars_max = chars_max
        self._chars = 0
        self._known: dict[str, _Known] = {}
        self._line: deque[str] = deque()
        """Every known token, whose turn to go comes first before all others."""

    def __len__(self) -> int:
        """Return how many tokens are known."""
        return len(self._known)

    def find(self, token: str) -> _Known | None:
        """Return what is known of a token."""
        known = self._known.get(token)
        if known is not None:
            known.asked = True
        return known

    def keep(self, token: str, known: _Known) -> None:
        """Remember a token, or what else is known of it now; forget what was not asked for."""
        if token not in self._known:
            self._chars += len(token)
            self._line.append(token)
        self._known[token] = known
        while len(self._known) > self._entries_max or self._chars > self._chars_max:
            self._forget_one()

    def _forget_one(self) -> None:
        for _ in range(SECOND_CHANCES_MAX):
            first = self._known[self._line[0]]
            if not first.asked:
                break
            first.asked = False
            self._line.rotate(-1)
        token = self._line.popleft()
        del self._known[token]
        self._chars -= len(token)
