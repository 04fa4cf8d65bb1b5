"""
What was revoked: single tokens by their `jti`, users, tenants.

Rules:
- Revoking a user or a tenant refuses every token issued up to that moment, and those that do not say when they were
  issued; a token issued later works, so that nobody has to lift anything for who logs in again.
- A `jti` is one issuer's: another issuer may use the same.
- A revocation holds until it is lifted, or until its `until`.

Decision: an exchange that runs when its tenant is revoked goes on to its end, because its tokens are reserved already,
a cut one would be billed all the same, and `limits.exchange_s_max` bounds it; the next request is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

from proxy.identity.principal import Principal

REVOCATIONS_MAX = 10_000
"""Each is about 300 bytes in every gateway."""


class RevocationKind(StrEnum):
    """What a revocation names."""

    JTI = "jti"
    USER = "user"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class RevokedSubject:
    """What is revoked; its text, such as `user:acme/ada`, is its id."""

    kind: RevocationKind
    name: str
    within: str = ""
    """The issuer of a `jti`, the tenant of a user; empty for a tenant."""

    def __str__(self) -> str:
        """Return the id: whatever the names hold, no two subjects share one."""
        names = [self.within, self.name] if self.within else [self.name]
        return f"{self.kind}:{'/'.join(quote(name, safe='') for name in names)}"

    @classmethod
    def of(cls, text: str) -> "RevokedSubject":
        """Return the subject with this id; raise ValueError for what is none."""
        kind, _, names = text.partition(":")
        within, _, name = names.rpartition("/")
        subject = cls(RevocationKind(kind), *(unquote(part, errors="strict") for part in (name, within)))
        if not name or str(subject) != text or bool(within) is (subject.kind is RevocationKind.TENANT):
            raise ValueError(text)
        return subject


@dataclass(frozen=True, slots=True)
class Revocation:
    """One line of the list. Units: microseconds since the epoch."""

    subject: RevokedSubject
    at_us: int
    """Tokens issued up to then are refused; a `jti` whenever it was issued."""
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a revocation may know a token by."""

    issuer: str
    principal: Principal
    jti: str | None
    issued_at: float | None
    """Seconds since the epoch."""


class Revoked:
    """The list as this gateway knows it now; `version` changes with it, so that a token is asked about once."""

    def __init__(self) -> None:
        self.version = 0
        self._by_subject: dict[RevokedSubject, Revocation] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is revoked."""
        return not self._by_subject

    def __iter__(self) -> Iterator[Revocation]:
        """Yield what is revoked."""
        return iter(self._by_subject.values())

    def replace(self, revocations: Iterable[Revocation]) -> None:
        """Put another list in the place of this one."""
        self._by_subject = {revocation.subject: revocation for revocation in revocations}
        self.version += 1

    def refuses(self, origin: Origin, now: float) -> bool:
        """Tell whether a token is revoked; `now` in seconds since the epoch."""
        principal = origin.principal
        token = RevokedSubject(RevocationKind.JTI, origin.jti, origin.issuer) if origin.jti else None
        user, tenant = (
            RevokedSubject(RevocationKind.USER, principal.user, principal.tenant),
            RevokedSubject(RevocationKind.TENANT, principal.tenant),
        )
        return (
            (token is not None and self._holds(token, None, now))
            or self._holds(user, origin.issued_at, now)
            or self._holds(tenant, origin.issued_at, now)
        )

    def _holds(self, subject: RevokedSubject, issued_at: float | None, now: float) -> bool:
        revocation = self._by_subject.get(subject)
        if revocation is None or (revocation.until_us is not None and revocation.until_us <= now * 1_000_000):
            return False
        return issued_at is None or issued_at * 1_000_000 <= revocation.at_us
