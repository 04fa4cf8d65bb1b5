"""Where state is kept: `[redis]` and `[ledger]`."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationInfo, field_validator

from proxy.redis.address import Address, Deployment
from proxy.settings.sections.base import Section
from proxy.settings.values import Location, Name, RedisUrl, Seconds


class Redis(Section):
    """Where quotas, reservations and the ledger's tail live."""

    url: RedisUrl | None = None
    """`redis://[USER@]HOST[:PORT][/DATABASE]` or `unix:///SOCKET` for one server,
    `redis+sentinel://[USER@]HOST[:PORT],.../SERVICE[/DATABASE]` for the primary that these sentinels name,
    `redis+cluster://[USER@]HOST[:PORT],...` for a cluster of which these are some nodes. `rediss` in the place of
    `redis` is TLS. Without a password. Left out: a redis-server of our own, append-only, on a unix socket under
    `data_dir`."""
    password_file: Location | None = None
    """File that holds the password for `url`; left out where it needs none."""
    sentinel_username: Name | None = None
    """User that the sentinels know this gateway by, where they want one; `url` names that of Redis itself."""
    sentinel_password_file: Location | None = None
    """File that holds the password for the sentinels; left out where they need none."""
    ca_file: Location | None = None
    """PEM certificates of whoever vouches for the servers (and sentinels), with TLS. Left out: whom the system trusts.
    A server's certificate must hold for the name, or the address, that leads to it."""
    cert_file: Location | None = None
    """PEM certificate (and what leads from it to its authority) that this gateway shows, where the servers want one."""
    key_file: Location | None = None
    """PEM key of `cert_file`, without a passphrase."""
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

    @field_validator("sentinel_username", "sentinel_password_file")
    @classmethod
    def _is_for_sentinels(cls, given: object, info: ValidationInfo) -> object:
        if given is not None and not _leads(info, lambda address: address.kind is Deployment.SENTINEL):
            raise ValueError("is of no use without a url of redis+sentinel:// or rediss+sentinel://")
        return given

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _is_for_tls(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and not _leads(info, lambda address: address.tls):
            raise ValueError("is of no use without a url that begins with rediss")
        return path

    @field_validator("key_file")
    @classmethod
    def _is_of_a_certificate(cls, key_file: Path | None, info: ValidationInfo) -> Path | None:
        if "cert_file" in info.data and (key_file is None) != (info.data["cert_file"] is None):
            raise ValueError("and cert_file go together")
        return key_file


def _leads(info: ValidationInfo, there: Callable[[Address], bool]) -> bool:
    """Tell whether the url is of a sort; one with a fault of its own is told already."""
    url = info.data.get("url")
    return there(Address.of(url)) if url else "url" not in info.data


class Ledger(Section):
    """How often a running request notes what it has used: a gateway that is killed loses at most one beat."""

    progress_s: Seconds = 1.0
    """Seconds between two beats."""
