"""
The connection to Redis: a deadline on every call, one fault, and no Redis that loses what is billed.

Rules:
- Scripts and commands go the same way (`pipeline.py`), so that what is read is read where it would be written.
- Whatever goes wrong becomes `proxy.errors.LedgerUnavailable`, here and nowhere else; its cause stays chained.
- A call may be sent again when its connection turns out to be dead, so every one sent through here changes nothing the
  second time.

Must not know what is stored.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from proxy.errors import LEDGER_REFUSES, LedgerUnavailable
from proxy.redis.address import Access, Address, Deployment
from proxy.redis.outage import Outage
from proxy.redis.pipeline import Observe, Pipeline
from proxy.redis.refusal import RedisRefusal
from proxy.redis.script import Script
from proxy.redis.socket import ErrorReply

DEADLINE_S = 1.0

Value = str | int | bytes


class UnsafeRedis(Exception):
    """This Redis could lose or evict what is billed; the message says which setting to change."""


class RedisClient:
    """
    Calls to Redis: `async with RedisClient("unix:///run/redis.sock") as connection`.

    `failed` is told why of each call that Redis did not take; an outage is then logged too (`outage.py`).
    Raises: ValueError, for what is no address; UnusableCertificate.
    Units: `deadline_s` in seconds for one call.
    """

    _outage: Outage | None = None

    def __init__(
        self,
        url: str,
        *,
        access: Access = Access(),  # noqa: B008 (it never changes)
        deadline_s: float = DEADLINE_S,
        observe: Observe = lambda op, seconds: None,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        address = Address.of(url)
        self._alone = address.kind is Deployment.ALONE
        self._outage = Outage(", ".join(map(str, address.places)), failed) if failed else None
        self._pipeline = Pipeline(url, deadline_s=deadline_s, access=access, observe=observe, fault=self._unavailable)

    async def __aenter__(self) -> Self:
        """Return itself; connections open with the first call."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every socket."""
        await self._pipeline.__aexit__(kind, error, trace)

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> Awaitable[str]:
        """
        Run a script; return its answer to come.

        Raises: LedgerUnavailable, when it is awaited.
        """
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        return self._pipeline.send(script.name, command, keys[0] if keys else None, script.text)

    async def call(self, command: str, *args: Value) -> Any:
        """
        Run one Redis command and return its answer; the first argument, if there is any, is its key.

        Raises: LedgerUnavailable.
        """
        answer = await self._pipeline.ask(command, *args)
        read = _READ.get(command)
        return read(answer) if read else answer

    async def servers(self) -> frozenset[str]:
        """
        Return which processes keep the data now, by the id that each start of a server has.

        Raises: LedgerUnavailable.
        """
        answers = await self._pipeline.ask_each("INFO", "server")
        return frozenset(_fields(answer)["run_id"] for answer in answers.values())

    def is_well(self) -> None:
        """Note that Redis has done all that a heartbeat asks."""
        if self._outage is not None:
            self._outage.answered()

    async def check(self, *, allow_unsafe: bool = False) -> None:
        """
        Refuse a Redis that is no primary or has 32 bits, and one that could lose data, unless the operator allows that.

        Raises: UnsafeRedis, LedgerUnavailable.
        """
        answers = await self._pipeline.ask_each("INFO")
        faults = [
            f"{place}: {fault}" if len(answers) > 1 else fault
            for place, answer in answers.items()
            for fault in self._faults(_fields(answer), allow_unsafe=allow_unsafe)
        ]
        if faults:
            raise UnsafeRedis("This Redis would lose quotas and bills; " + "; ".join(faults) + ".")

    def _unavailable(self, fault: Exception) -> Exception:
        refusal = RedisRefusal.of(fault)
        error = LedgerUnavailable(LEDGER_REFUSES) if isinstance(fault, ErrorReply) else LedgerUnavailable()
        error.__cause__ = fault
        if refusal is not None and self._outage is not None:
            self._outage.met(refusal)
            error.told = True
        return error

    def _faults(self, info: Mapping[str, str], *, allow_unsafe: bool) -> list[str]:
        faults = []
        if info.get("role", "master") != "master":
            faults.append("it is a replica: name the primary, or with redis+sentinel:// who knows it")
        if self._alone and info.get("cluster_enabled", "0") != "0":
            faults.append("it is a part of a cluster: let the url begin with redis+cluster")
        if info.get("arch_bits", "64") != "64":
            faults.append("it is a 32-bit build, whose scripts write no number above 2^31")
        if allow_unsafe:
            return faults
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
            faults.append(f"maxmemory-policy is {policy}: set it to noeviction")
        if info.get("aof_enabled", "0") == "0":
            faults.append("it keeps no append-only file: set appendonly to yes")
        return faults


def _fields(info: str) -> dict[str, str]:
    """Read what INFO says."""
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def _entries(rows: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, dict[str, str]]]:
    return [(entry_id, _pairs(words)) for entry_id, words in rows]


_READ: dict[str, Callable[[Any], Any]] = {"HGETALL": _pairs, "XRANGE": _entries}
"""What some answers mean."""
