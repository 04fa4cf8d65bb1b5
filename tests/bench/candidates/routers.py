"""The routers that others put before vLLM, from PyPI, in a virtual environment of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import rivals
from tests.bench.candidates.candidate import Place, Target, serving

LAUNCHERS = {
    "vllm-router": ("vllm-router",),
    "sglang-router": ("python", "-m", "sglang_router.launch_router"),
}


class Router:
    """One router with one policy, otherwise as it is by default."""

    def __init__(self, package: str, version: str, policy: str) -> None:
        self.name = f"{package}-{policy}".replace("_", "-")
        self.job = f"routes, {policy}"
        self._package, self._version, self._policy = package, version, policy

    def prepare(self) -> str:
        """Install it, the first time. Raises: Missing."""
        rivals.install(self._package, self._version)
        return self._version

    @asynccontextmanager
    async def started(self, place: Place) -> AsyncIterator[Target]:
        """Run it before the replicas."""
        program, *rest = LAUNCHERS[self._package]
        options = {
            "--host": "127.0.0.1",
            "--port": str(place.port),
            "--policy": self._policy,
            "--prometheus-host": "127.0.0.1",
            "--prometheus-port": str(place.spare_port),
            "--log-level": "error",
            "--worker-startup-check-interval": "1",
        }
        words = (word for name, value in options.items() for word in (name, value))
        command = (str(rivals.BIN / program), *rest, "--worker-urls", *place.replicas, *words)
        async with serving(place, command) as child:
            yield Target(place.port, child.pid)
