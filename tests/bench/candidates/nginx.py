"""nginx, where it is installed: a proxy that knows nothing of models."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.candidates.candidate import Place, Target, serving
from tests.bench.machine import Missing

TEMPLATE = Path(__file__).parents[1] / "nginx.conf"


class Nginx:
    """One worker, connections kept, nothing buffered."""

    name = "nginx"
    job = "passes on, round robin"

    def prepare(self) -> str:
        """Return the version. Raises: Missing."""
        shown = subprocess.run((_program(), "-v"), capture_output=True, text=True, check=False, timeout=10)
        found = re.search(r"nginx/(\S+)", shown.stderr)
        return found[1] if found else "unknown"

    @asynccontextmanager
    async def started(self, place: Place) -> AsyncIterator[Target]:
        """Run master and worker."""
        servers = "\n".join(f"        server {url.removeprefix('http://')};" for url in place.replicas)
        config = TEMPLATE.read_text().replace("@replicas@", servers).replace("@port@", str(place.port))
        # A root's worker would give up its rights, and with them the folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        path = place.folder / "nginx.conf"
        path.write_text(user + config)
        async with serving(place, (_program(), "-p", str(place.folder), "-c", str(path), "-e", "stderr")) as child:
            yield Target(place.port, child.pid)


def _program() -> str:
    """Return where nginx is: on Debian, where only root's PATH leads. Raises: Missing."""
    found = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if found is None:
        raise Missing("not installed (Debian: apt-get install nginx-light)")
    return found
