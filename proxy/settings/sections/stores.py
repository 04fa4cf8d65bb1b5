"""Where state is kept: `[redis]` and `[ledger]`."""

from pathlib import Path

from pydantic import ValidationInfo, field_validator

from proxy.settings.sections.base import Section
from proxy.settings.values import Location, RedisUrl, Seconds


class Redis(Section):
    """Where quotas, reservations and the ledger's tail live."""

    url: RedisUrl | None = None
    """`redis://`, `rediss://` or `unix://`, without a password. Left out: a redis-server of our own, append-only, on a
    unix socket under `data_dir`."""
    password_file: Location | None = None
    """File that holds the password for `url`; left out where it needs none."""
    data_dir: Location = Path("data")
    """Folder for what the gateway writes itself: the write-ahead log, the embedded Redis, the development key, the
    cache secret. It must be on a disk that outlives the gateway."""
    timeout_s: Seconds = 2.0
    """Deadline of every call, in seconds; past it a request is answered `ledger_unavailable`."""
    allow_unsafe: bool = False
    """Start even on a Redis that may lose or evict data (no append-only file, or a `maxmemory-policy` other than
    `noeviction`). For development."""

    @field_validator("password_file")
    @classmethod
    def _is_for_an_address(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        if password_file is not None and info.data.get("url", "") is None:
            raise ValueError("is of no use without a url: the embedded Redis is guarded by its socket's folder")
        return password_file


class Ledger(Section):
    """How often a running request notes what it has used: a gateway that is killed loses at most one beat."""

    progress_s: Seconds = 1.0
    """Seconds between two beats."""
