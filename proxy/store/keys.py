"""
Every key in Redis, in one place.

Rules:
- All keys of a tenant share the hash tag `{tenant}`, so that one script may touch them on a cluster.
- A name in a key is percent-encoded: whatever it holds, it neither collides with another nor leaves its slot. Ids are
  the gateway's own ULIDs, and stand as they are.
- What gateways of two versions move together has no number in it: a form that older ones would read wrong gets a key of
  another name (`proxy.versions`).
- A counter's key tells scope and subject, never the plan: who switches plans keeps what was used.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote

from policies.quota import Scope

INCARNATIONS = "tollway:incarnations"
"""Sorted set: incarnation -> its last heartbeat in microseconds."""
DEAD = "tollway:dead"
"""Sorted set: incarnation that is proven dead -> when that was told, in microseconds."""
SUSPECT = "tollway:suspect"
"""What the last sweep found to be SUSPECT: reservations and tokens. Expires when nobody sweeps."""
TENANTS = "tollway:tenants"
"""Set: every tenant that ever reserved. Only the archiver may shorten it."""
REVOKED = "tollway:revoked"
"""Hash: subject -> since when and until when it is revoked; and `version`."""
READY = "tollway:ready:"
"""Begins the key that one gateway tries by whether Redis takes writes; gone when it is done."""
SWEEP = "tollway:sweep"
"""Set while somebody has this period's turn to sweep; expires with it."""
GENERATION = "tollway:epoch"
"""Which data this is: the present generation, then those it replaces, between blanks. Never expires."""
GENERATIONS_MISSED = "tollway:epochs-missed"
"""Set: generations that gateways remember and do not find here; what an operator accepts to have lost."""


TENANTS_MAX = 8_192
"""Tenants whose keys are remembered."""


def reservation(tenant: str, request_id: str) -> str:
    """Return the key of one reservation; its text is told in lua/lib/reservations.lua."""
    return f"{_of(tenant)}:reserved:{request_id}"


def open_index(tenant: str) -> str:
    """Return the key of the sorted set of a tenant's open reservations: member -> created, in microseconds."""
    return f"{_of(tenant)}:open"


def suspect_index(tenant: str) -> str:
    """
    Return the key of the sorted set of what is SUSPECT: member of the open index -> when its exchange is over for sure.

    Scripts that end a reservation make it of the open index (lua/lib/lines.lua).
    """
    return f"{open_index(tenant)}:suspect"


def ledger(tenant: str) -> str:
    """Return the key of a tenant's ledger stream."""
    return f"{_of(tenant)}:ledger"


def generation(tenant: str) -> str:
    """Return the key of the data generation that a tenant's counters and ledger are of; it is gone when they are."""
    return f"{_of(tenant)}:epoch"


def once(tenant: str, user: str, key: str) -> str:
    """Return the key that remembers which request a client's own key (`Idempotency-Key`) belongs to."""
    return f"{_of(tenant)}:once:{_encoded(user)}:{sha256(key.encode()).hexdigest()}"


def grant(tenant: str, grant_id: str) -> str:
    """Return the key of one grant of an operator's: what it was answered."""
    return f"{_of(tenant)}:grant:{grant_id}"


def late(tenant: str, request_id: str) -> str:
    """Return the key of the right to append one late record: who has it."""
    return f"{_of(tenant)}:late:{request_id}"


Template = tuple[str, ...]
"""A key without its user, whose name belongs between the parts; one part alone is the key of all users."""


def counter(scope: Scope, tenant: str, model: str) -> Template:
    """Return the template of the key of what is used of all rates and windows of one scope for one subject."""
    return _of_subject(f"{_of(tenant)}:used:{scope.value}:", scope, model)


def in_flight(scope: Scope, tenant: str, model: str) -> Template:
    """Return the template of the key of a subject's requests in flight, a sorted set: request id -> expected end."""
    return _of_subject(f"{_of(tenant)}:in-flight:{scope.value}:", scope, model)


def of_user(user: str, templates: Iterable[Template]) -> tuple[str, ...]:
    """Return the keys that templates make for one user."""
    return tuple(map(_encoded(user).join, templates))


def open_member(incarnation: str, request_id: str) -> str:
    """Return how the index of open reservations names one: who serves it, and its id."""
    return f"{incarnation}/{request_id}"


def read_open_member(member: str) -> tuple[str, str]:
    """Return the (incarnation, request id) that `open_member` joined."""
    incarnation, _, request_id = member.partition("/")
    return incarnation, request_id


@lru_cache(maxsize=TENANTS_MAX)
def _of(tenant: str) -> str:
    return f"tollway:{{{_encoded(tenant)}}}"


def _of_subject(counted: str, scope: Scope, model: str) -> Template:
    """Return the template of keys that tell a subject's use from others' within its tenant."""
    if scope is Scope.USER:
        return counted, ""
    if scope is Scope.MODEL:
        return (f"{counted}{_encoded(model)}",)
    return (counted,) if scope is Scope.TENANT else (counted, f":{_encoded(model)}")


def _encoded(name: str) -> str:
    """Return `name` so that it has no separator in it; an empty one is `%`, since an empty hash tag is none."""
    return name if _PLAIN(name) else _quoted(name)


_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch
"""What stays as it is, percent-encoded: of most names nothing has to be remembered."""


@lru_cache(maxsize=8_192)
def _quoted(name: str) -> str:
    return quote(name, safe="") or "%"


def _decoded(text: str) -> str:
    return "" if text == "%" else unquote(text)
