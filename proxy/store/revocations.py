"""
The list of what is revoked, in Redis: one hash for all gateways, from subject to `since until`, and its `version`.

Rules:
- Every change stamps a new version; a gateway reads that twice a second and the list only when it is another one, so
  that a revocation holds everywhere within two seconds.
- While Redis is away the last list holds. Versions only grow: where Redis has an older one than the gateway, or none,
  it lost its last second or its memory, and the gateway puts back what it knows, because a revocation must not end by
  an accident. (One that Redis lost before any gateway had read it has to be made again.)
- What only a newer gateway revokes is told and passed over. Words behind the two are passed over too.
"""

import asyncio
import logging
from typing import Self

from engine.runtime.background import Background
from proxy.errors import LedgerUnavailable
from proxy.identity.revocation import REVOCATIONS_MAX, Revocation, Revoked, RevokedSubject
from proxy.redis.client import RedisClient, Value
from proxy.store import keys, scripts

POLL_S = 0.5
_VERSION = "version"

_log = logging.getLogger(__name__)


class TooManyRevocations(Exception):
    """The list is full."""


class Revocations(Background):
    """
    Keeps `revoked` as Redis has it: `async with Revocations(connection, revoked)`.

    Raises: LedgerUnavailable, on entry only: nobody is served before the list is known.
    """

    def __init__(self, connection: RedisClient, revoked: Revoked, *, poll_s: float = POLL_S) -> None:
        super().__init__(self._poll_on, "tollway-revocations")
        self._connection = connection
        self._revoked = revoked
        self._poll_s = poll_s
        self._version = 0

    async def __aenter__(self) -> Self:
        """Read the list, and go on reading it."""
        await self.poll()
        return await super().__aenter__()

    async def poll(self) -> None:
        """Take over what changed since the last time."""
        version = int(await self._connection.call("HGET", keys.REVOKED, _VERSION) or 0)
        if version < self._version:
            _log.error("revocations_lost")
            await self._put_back()
        if version != self._version:
            self._version, revocations = await _read(self._connection)
            self._revoked.replace(revocations)

    async def _put_back(self) -> None:
        args: list[Value] = [self._version]
        for known in self._revoked:
            args += [str(known.subject), f"{known.at_us} {known.until_us or 0}"]
        await self._connection.run(scripts.RESTORE, [keys.REVOKED], args)

    async def _poll_on(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.poll()
            except LedgerUnavailable as fault:
                if not fault.told:
                    _log.warning("revocations_not_read", exc_info=True)


async def revoke(connection: RedisClient, subject: RevokedSubject, until_us: int | None) -> Revocation:
    """
    Revoke a subject from this moment on; the same again moves the moment to now.

    Raises: TooManyRevocations, LedgerUnavailable.
    """
    args: list[Value] = [str(subject), until_us or 0, REVOCATIONS_MAX]
    now, done = (await connection.run(scripts.REVOKE, [keys.REVOKED], args)).split()
    if done == "0":
        raise TooManyRevocations(f"{REVOCATIONS_MAX} subjects are revoked; lift some first")
    return Revocation(subject, int(now), until_us)


async def lift(connection: RedisClient, subject: RevokedSubject) -> bool:
    """Lift a subject's revocation; tell whether there was one. Raises LedgerUnavailable."""
    return (await connection.run(scripts.LIFT, [keys.REVOKED], [str(subject)])).split()[1] == "1"


async def revocations(connection: RedisClient) -> list[Revocation]:
    """Return what is revoked, the latest first; raise LedgerUnavailable."""
    return sorted((await _read(connection))[1], key=lambda revocation: -revocation.at_us)


async def _read(connection: RedisClient) -> tuple[int, list[Revocation]]:
    content = await connection.call("HGETALL", keys.REVOKED)
    version, found = int(content.pop(_VERSION, 0)), []
    for subject, value in content.items():
        try:
            at, until, *_ = value.split()
            found.append(Revocation(RevokedSubject.of(subject), int(at), int(until) or None))
        except ValueError:
            kind, named, _ = subject.partition(":")
            _log.error("revocation_unreadable", extra={"reason": f"of the kind {kind}" if named else "of no kind"})
    return version, found
