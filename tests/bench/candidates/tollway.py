"""Tollway itself, the whole job: one worker, its own Redis on the load's core, a token for each of 64 users."""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import proxy
from proxy.identity.development import mint
from proxy.settings import load
from tests.bench.candidates.candidate import Place, Target, serving
from tests.bench.machine import LOAD_CORE, Missing, family, is_redis, move, processes

CONFIG = Path(__file__).parents[1] / "tollway.toml"
COMMAND = (str(Path(sys.executable).with_name("tollway")),)
USERS = 64


class Tollway:
    """
    The gateway as `tollway up` runs it, for `users` users in turn.

    `command` puts something before that, such as a profiler.
    """

    job = "the whole job: JWT, reserve, route, settle, write-ahead log, ledger, metrics"

    def __init__(
        self, command: Sequence[str] = COMMAND, *, name: str = "tollway", config: Path = CONFIG, users: int = USERS
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._config = config
        self._users = users

    def prepare(self) -> str:
        """Return the version, with the commit where it is known."""
        commit = _commit()
        return f"{proxy.__version__} ({commit})" if commit else proxy.__version__

    @asynccontextmanager
    async def started(self, place: Place) -> AsyncIterator[Target]:
        """Run gateway and Redis, and sign the tokens."""
        laid_over = overlay(place)
        settings = load(self._config, os.environ | laid_over)
        bearers = [f"Bearer {mint(settings, tenant='bench', user=f'user-{number}')}" for number in range(self._users)]
        authorizations = place.folder / "authorizations"
        authorizations.write_text("\n".join(bearers))
        command = (*self._command, "up", "--config", str(self._config), "--log-level", "warning")
        async with serving(place, command, env=laid_over, bearer=bearers[0]) as child:
            for process in filter(is_redis, family(processes(), child.pid)):
                move(process.pid, LOAD_CORE)
            yield Target(place.port, child.pid, authorizations)


def of_checkout(folder: Path) -> Tollway:
    """
    Return the gateway of another checkout, which `make` has set up there.

    Raises: Missing.
    """
    command = folder / ".venv" / "bin" / "tollway"
    if not command.is_file():
        raise Missing(f"there is no {command}: run `make run` or `make lint` there once")
    return Tollway((str(command),), name="before")


def _commit() -> str:
    """Return what git calls this checkout, or nothing where there is no git."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = (git, "-C", str(CONFIG.parent), "describe", "--always", "--dirty")
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()


def overlay(place: Place) -> dict[str, str]:
    """Return the environment that puts the gateway there."""
    replicas = {f"TOLLWAY__MODELS__0__REPLICAS__{n}__URL": url for n, url in enumerate(place.replicas)}
    return {
        "TOLLWAY__LISTEN__PORT": str(place.port),
        "TOLLWAY__ADMIN__PORT": str(place.spare_port),
        "TOLLWAY__REDIS__DATA_DIR": str(place.folder / "data"),
        **replicas,
    }
