"""What a candidate is to the bench, and what all that are servers share."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from engine.runtime.process import Child, ChildFailed
from tests.bench.machine import CANDIDATE_CORE, pinned

READY_S_MAX = 30.0
STOP_S_MAX = 15.0
QUESTION = {"model": "bench-model", "messages": [{"role": "user", "content": "Are you ready? " * 20}], "max_tokens": 64}
"""With room for the usage that the upstream claims: a gateway that meters refuses more than it let through."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a candidate runs: its folder, its port, and the replicas behind it."""

    folder: Path
    port: int
    spare_port: int
    """For metrics or administration."""
    replicas: Sequence[str]
    """`http://host:port` each."""


@dataclass(frozen=True, slots=True)
class Target:
    """A candidate that answers."""

    port: int
    pid: int | None = None
    """Whose family is charged for the work; None for nobody."""
    authorizations: Path | None = None
    """`Authorization` values, one a line, for the load to use in turn."""


class Candidate(Protocol):
    """Something that requests can be sent through."""

    @property
    def name(self) -> str:
        """As it stands in the tables, and after --only."""

    @property
    def job(self) -> str:
        """What it does with a request, in a few words."""

    def prepare(self) -> str:
        """Install what is needed and return the version. Raises: machine.Missing."""

    def started(self, place: Place) -> AbstractAsyncContextManager[Target]:
        """Run it on the candidates' core for the block. Raises: engine.runtime.process.ChildFailed."""


@asynccontextmanager
async def serving(
    place: Place,
    command: Iterable[str],
    *,
    env: Mapping[str, str] | None = None,
    bearer: str = "",
) -> AsyncIterator[Child]:
    """Run a server for the block, once it has answered a whole request. Raises: engine.runtime.process.ChildFailed."""
    words = pinned(CANDIDATE_CORE, command)
    log = place.folder / "server.log"
    async with Child("server", words, log=log, env=env, stop_s_max=STOP_S_MAX) as child, httpx.AsyncClient() as client:
        said: list[str] = []

        async def answers() -> bool:
            try:
                headers = {"authorization": bearer} if bearer else {}
                url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
                response = await client.post(url, json=QUESTION, headers=headers)
            except httpx.TransportError:
                return False
            said[:] = [f"{response.status_code} {response.text[:300]}"]
            return response.is_success

        try:
            await child.ready(answers, within_s=READY_S_MAX)
        except ChildFailed as fault:
            raise ChildFailed(f"{fault}\nlast answer: {said[0] if said else 'none'}") from None
        yield child
