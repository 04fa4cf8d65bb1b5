"""
Which data is in Redis: its generation, written into an empty one once, and remembered by every gateway and its
`data_dir`. The keys, the file and the log call it epoch, as they always did.

Rules:
- A Redis without the generation that a gateway remembers has lost its data, or is another one. Nothing is reserved on
  its zeros and nothing is charged into it, until an operator accepts the loss (`tollway ledger accept-empty`).
- The tenant's own copy stands beside its counters and is read by the scripts that reserve and settle: a Redis that was
  emptied a moment ago does not count from 0 even once. A tenant in the registry without its copy has lost its data.
- An accepted loss names the generations it replaces, so one operator's command is enough for a fleet.
- What this start wrote itself, and Redis may not yet have on disk, is written again.

Bounds: a tenant that a gateway serves for the first time is enrolled in four commands. A Redis emptied between the
second and the third takes that one tenant's requests until the next beat, at most 2 s.
"""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from proxy.errors import LedgerEmptied
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.ulids import new_ulid

ON_DISK_AFTER_S = 4.0
"""Redis syncs its append-only file each second, at worst each two."""
MISSED_MS = 30 * 86_400_000
REPLACED_MAX = 64
"""Losses that a fleet's slowest gateway may have slept through."""

_log = logging.getLogger(__name__)


class Generation:
    """
    What this gateway remembers of its Redis; `memory` is the file that outlives it.

    `confirm` before anything else; then `value` is what the scripts compare.
    """

    def __init__(self, connection: RedisClient, memory: Path | None = None) -> None:
        self._connection = connection
        self._memory = memory
        self._on_disk = self.value = _read(memory)
        self._seen_at: float | None = None
        self._written_at: float | None = None
        self.lost = False
        """Whether Redis does not have the data that is remembered."""
        self.losses = 0
        """How often Redis turned out to have lost what it had: all of it, or a tenant's."""
        self._without: set[str] = set()
        """Tenants whose data was missed."""

    async def confirm(self) -> None:
        """
        Look whether Redis still has this generation; write one where there is neither data nor memory.

        Raises: LedgerUnavailable.
        """
        found = await self._found()
        if not found and await self._may_write():
            await self._write()
            found = await self._found()
        if found and (not self.value or self.value in found):
            self._adopt(found)
        else:
            await self._miss()

    async def enrol(self, tenant: str) -> None:
        """
        Enter a tenant in the registry, its data of this generation.

        Raises: LedgerEmptied, LedgerUnavailable.
        """
        await self.confirm()
        self.check()
        own = await self._connection.call("GET", keys.generation(tenant))
        if own is None and await self._connection.call("SISMEMBER", keys.TENANTS, tenant):
            _log.error("tenant_data_lost", extra={"tenant": tenant})
            self.losses += tenant not in self._without
            self._without.add(tenant)
            raise LedgerEmptied
        self._without.discard(tenant)
        if own != self.value:
            await self._connection.call("SET", keys.generation(tenant), self.value)
        await self._connection.call("SADD", keys.TENANTS, tenant)

    def check(self) -> None:
        """Raise LedgerEmptied while the data that is remembered is not there."""
        if self.lost:
            raise LedgerEmptied

    async def _found(self) -> list[str]:
        return (await self._connection.call("GET", keys.GENERATION) or "").split()

    async def _may_write(self) -> bool:
        if self.value:
            return self._written_at is not None and monotonic() - self._written_at < ON_DISK_AFTER_S
        return not await self._connection.call("EXISTS", keys.GENERATIONS_MISSED)

    async def _write(self) -> None:
        value = self.value or new_ulid()
        self.losses += bool(self.value)
        if await self._connection.call("SET", keys.GENERATION, value, "NX"):
            self._written_at = monotonic()
            await enrol_all(self._connection, value)

    def _adopt(self, found: list[str]) -> None:
        if self.lost:
            _log.warning("epoch_found_again")
        if found[0] != self.value:
            self.losses += bool(self.value)
            self.value, self._seen_at = found[0], monotonic()
        self.lost = False
        self._seen_at = self._seen_at or monotonic()
        if self._on_disk != self.value and monotonic() - self._seen_at >= ON_DISK_AFTER_S:
            self._write_down()

    def _write_down(self) -> None:
        self._on_disk = self.value
        try:
            _replace(self._memory, self.value)
        except OSError:
            # The next start will not know; this one does, and a gateway that cannot beat counts as dead.
            _log.exception("epoch_not_written_down")

    async def _miss(self) -> None:
        if not self.lost:
            self.losses += 1
            _log.error("epoch_lost", extra={"epoch": self.value})
        self.lost = True
        if self.value:
            await self._connection.call("SADD", keys.GENERATIONS_MISSED, self.value)
            await self._connection.call("PEXPIRE", keys.GENERATIONS_MISSED, MISSED_MS)


@dataclass(frozen=True, slots=True)
class Loss:
    """What an operator accepted to be lost."""

    generations: tuple[str, ...]
    """All that was in Redis at these."""
    tenants: tuple[str, ...]
    """What was in Redis of these."""


async def enrol_all(connection: RedisClient, generation: str) -> tuple[str, ...]:
    """Let every tenant of the registry count on from what Redis has of it; return those of which it had nothing."""
    without = []
    for tenant in sorted(await connection.call("SMEMBERS", keys.TENANTS)):
        if await connection.call("GETSET", keys.generation(tenant), generation) is None:
            without.append(tenant)
    return tuple(without)


async def accept(connection: RedisClient, remembered: str) -> Loss:
    """
    Accept that the data that gateways miss is lost; return what that is.

    `remembered` is what the caller's own `data_dir` remembers, or "".
    Raises: LedgerUnavailable.
    """
    found = (await connection.call("GET", keys.GENERATION) or "").split()
    missed = set(await connection.call("SMEMBERS", keys.GENERATIONS_MISSED)) | {remembered} - {""}
    lost = sorted(missed - set(found))
    present = found[0] if found else new_ulid()
    if lost or not found:
        await connection.call("SET", keys.GENERATION, " ".join([present, *lost, *found[1:]][:REPLACED_MAX]))
    tenants = await enrol_all(connection, present)
    await connection.call("DEL", keys.GENERATIONS_MISSED)
    return Loss(tuple(lost), tenants)


def remembered(data_dir: Path) -> str:
    """Return the generation that gateways of this folder remember; empty where there is none yet."""
    return _read(file_of(data_dir))


def file_of(data_dir: Path) -> Path:
    """Return where a gateway remembers its generation."""
    return data_dir / "epoch"


def _read(memory: Path | None) -> str:
    with suppress(FileNotFoundError, NotADirectoryError):
        return memory.read_text().strip() if memory else ""
    return ""


def _replace(memory: Path | None, value: str) -> None:
    if memory is None:
        return
    memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = memory.with_name(f"{memory.name}.{os.getpid()}")
    with beside.open("w") as file:
        file.write(f"{value}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(memory)
