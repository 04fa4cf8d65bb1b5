"""
How many bytes of bodies are held at a time, over all connections, and how many of them by one tenant and user: of
requests, and of answers in one piece until their clients have read them.

Room for an answer is taken before it is asked for, by how large it can get, so that it need not be waited for when it
comes.

A tenant may hold a part of what the others leave of the room, and a user a part of what the others of his tenant leave
of that. So there is always room left: by the parts that are the default, behind `k` tenants that take all they can
0.75 to the power of `k` of it. One body alone is never too much for its tenant or user.

Decision: parts of what is left, and not of the whole.
Because parts of the whole are taken up by a few tenants together, or have to be so small that one alone is held short.
Source: dynamic thresholds, as switches share their memory (Choudhury and Hahne, 1998).
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from proxy.errors import ApiError, Code

_SMALL_BYTES_MAX = 16 * 1024
"""Held by a request without being counted as its tenant's: ten thousand connections hold 160 MiB so."""
SMALL_ANSWER_BYTES_MAX = 64 * 1024
"""Of an answer for which no room is taken: a connection may hold as much unread of any."""

Owner = tuple[str, str]
"""A tenant and a user of it."""
NOBODY: Owner = ("", "")


class Parts(NamedTuple):
    """Of what the others leave: a tenant's part of the room, and a user's of his tenant's."""

    tenant: float = 0.25
    user: float = 0.5


PARTS = Parts()


@dataclass(slots=True)
class Bodies:
    """
    The bodies that are being read, served or answered.

    Units: bytes as they came; parsed, a body takes several times as much.
    """

    held: int = 0
    _by_owner: dict[Owner | str, int] = field(default_factory=dict)
    """By tenant, and by tenant and user; nobody stands here who holds nothing."""

    def share(self, bytes_max: int, parts: Parts = PARTS) -> "Share":
        """Return what one request holds, which with all others may be `bytes_max`; its block gives it back."""
        return Share(self, bytes_max, parts)

    def of(self, owner: Owner | str) -> int:
        """Return how much a tenant or a user holds."""
        return self._by_owner.get(owner, 0)

    def count(self, owner: Owner, size: int) -> None:
        """Count so much more as held by a user, or so much less."""
        for each in (owner, owner[0]):
            held = self._by_owner.get(each, 0) + size
            if held:
                self._by_owner[each] = held
            else:
                del self._by_owner[each]


@dataclass(slots=True)
class Share:
    """What one request holds of all bodies' bytes."""

    _bodies: Bodies
    _bytes_max: int
    _parts: Parts = PARTS
    owner: Owner = NOBODY
    """Whose request it is; to be known before it takes anything."""
    held: int = 0
    _counted: int = 0
    """Of it, as the owner's."""
    _answer: int = 0
    """Of it, for the answer."""
    _room: int = SMALL_ANSWER_BYTES_MAX
    """What the answer may have without more being taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bodies.held -= self.held
        if self._counted:
            self._bodies.count(self.owner, -self._counted)

    def take(self, size: int) -> None:
        """Count bytes that have arrived; raise `ApiError` where there is no room for them."""
        bodies, held = self._bodies, self.held + size
        if bodies.held + size > self._bytes_max:
            raise ApiError(Code.OVERLOADED, "The gateway holds too many bodies at once.", retry_after_s=1)
        if held > _SMALL_BYTES_MAX:
            self._count(held - self._counted)
        bodies.held += size
        self.held = held

    def expect(self, size: int) -> None:
        """
        Take room for an answer before it is asked for; raise `ApiError` where there is none.

        Of one that is larger than what its owner may hold while nobody else does, the rest is taken as it comes.
        """
        alone = int(self._bytes_max * self._parts.tenant * self._parts.user)
        self._answer_takes(min(size, max(0, alone - self.held)))

    def has_room(self, size: int) -> bool:
        """Tell whether there is room for an answer of this size, of which more comes than was expected."""
        if size > self._room:
            try:
                self._answer_takes(size)
            except ApiError:
                return False
        return True

    def keep(self, size: int) -> None:
        """Give back what was taken for an answer that has only this size."""
        less = self._answer - size
        if less > 0:
            self._answer = self._room = size
            self._bodies.held -= less
            self.held -= less
            if self._counted:
                self._counted -= less
                self._bodies.count(self.owner, -less)

    def _answer_takes(self, size: int) -> None:
        self.take(size - self._answer)
        self._answer = self._room = size

    def _count(self, more: int) -> None:
        """Count so much more as the owner's; raise `ApiError` where that is more than his part."""
        bodies, tenant = self._bodies, self.owner[0]
        of_tenant, of_user = bodies.of(tenant), bodies.of(self.owner)
        left_to_tenant = self._parts.tenant * (self._bytes_max - bodies.held + of_tenant)
        left_to_user = self._parts.user * (left_to_tenant - of_tenant + of_user)
        if of_tenant > self._counted and of_tenant + more > left_to_tenant:
            raise _too_much("tenant", of_tenant, left_to_tenant)
        if of_user > self._counted and of_user + more > left_to_user:
            raise _too_much("user", of_user, left_to_user)
        bodies.count(self.owner, more)
        self._counted += more


def _too_much(whose: str, held: int, left: float) -> ApiError:
    message = (
        f"The bodies of this {whose}'s requests and answers hold {held} bytes, and may hold {max(0, int(left))} now; "
        "send it again when some of them are answered."
    )
    return ApiError(Code.CONCURRENCY_LIMIT_EXCEEDED, message, retry_after_s=1)
