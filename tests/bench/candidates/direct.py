"""Nothing in between: what the load generator and the upstream can do by themselves, on one core."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.bench.candidates.candidate import Place, Target


class Direct:
    """The harness's own limit."""

    name = "direct"
    job = "nothing: the harness's own limit"

    def prepare(self) -> str:
        """Return no version."""
        return ""

    @asynccontextmanager
    async def started(self, place: Place) -> AsyncIterator[Target]:
        """Point at a replica."""
        yield Target(urlsplit(place.replicas[0]).port or 0)
