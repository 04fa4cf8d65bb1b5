"""Who is asking, as the signed token and the operator's config say it."""

from typing import NamedTuple


class Principal(NamedTuple):
    """A verified caller. Nothing here ever comes from a header other than the token's."""

    tenant: str
    user: str
    plan: str
    """One of the plans that the operator gave the tenant."""
    scopes: frozenset[str] = frozenset()
    """Those that the token claims and the config lists for its issuer, for instance `usage:read`."""
