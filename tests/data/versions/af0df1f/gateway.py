"""
A gateway of commit af0df1f without its listeners: it runs on that commit's tree alone (README.md).

    gateway.py record REDIS FOLDER     fills an empty Redis and FOLDER with all that such a gateway writes
    gateway.py serve REDIS DATA_DIR    does what each line of standard input says, a JSON array, and answers with one
"""
# What it imports is another commit's:
# mypy: ignore-errors

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from policies.pricing import Price
from policies.quota import WHOLE, Ask, Limit, Per, Scope, Subject, Unit
from proxy.billing.record import ExchangeRecord, Source
from proxy.errors import LedgerUnavailable
from proxy.identity.revocation import RevocationKind as Kind
from proxy.identity.revocation import RevokedSubject as Named
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger, revocations
from proxy.store.journal.journal import Journal
from proxy.store.membership import generation
from proxy.store.membership.incarnation import Incarnation
from proxy.store.outbox.end import Release, Settle
from proxy.store.outbox.outbox import Outbox
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import RedisReservations
from proxy.store.sweeper import Sweeper

LONG_AGO_US = 20_000_000
PRICE = Price(version="2026-11", currency="USD", prompt=2_500_000, cached=250_000, completion=10_000_000)
FEW = [["user", "tokens", 100_000, "day"], ["tenant", "requests", 1_000, "month"], ["user", "concurrent", 64, None]]
HOUR = {"tokens": 20_000, "requests": 100}
ALL = [
    *([s, u, HOUR[u] if p == "hour" else 1_000_000, p] for s in Scope for u in HOUR for p in Per),
    *([s, "concurrent", 500, None] for s in Scope),
]
"""Of what is used of an hour's rates most is left while a test runs."""
ODD = {"tenant": "odd {tenant}/ü%", "user": "ü/ser {1}", "model": "m/2"}
DRAFT = {
    "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "charge_micros": 0, "wasted_tokens": 0,
    "request_id": "", "incarnation": "", "tenant": "acme", "user": "ada", "plan": "pro", "lane": "interactive",
    "model": "demo", "replica": "demo-0", "group": "", "endpoint": "chat", "n": 1, "started_at": 1_790_000_000_000_000,
    "finished_at": 1_790_000_003_000_000, "source": "engine", "outcome": "ok", "stream": True, "queue_ms": 40,
    "ttft_ms": 500, "price_version": "2026-11", "currency": "USD", "attempts": 1,
}  # fmt: skip
REVOKED = ((Kind.JTI, "t/1", "https://issuer"), (Kind.USER, "eve", "acme"), (Kind.TENANT, "odd {tenant}", ""))
ASK = [100, 1, 900, 256, 5_000_000]


def read_limits(limits: Any) -> tuple[Limit, ...]:
    return tuple(Limit(Scope(s), Unit(u), amount, Per(p) if p else None) for s, u, amount, p in limits)


class Away(RedisReservations):
    """Reservations in a Redis that does not answer some settles."""

    def __init__(self, connection: RedisClient, incarnation: Incarnation) -> None:
        super().__init__(connection, incarnation)
        self.unanswered: set[str] = set()

    def settle(self, record: ExchangeRecord, *args: Any, **named: Any) -> Any:
        self._answer(record)
        return super().settle(record, *args, **named)

    def append_late(self, record: ExchangeRecord, *args: Any, **named: Any) -> Any:
        self._answer(record)
        return super().append_late(record, *args, **named)

    def _answer(self, record: ExchangeRecord) -> None:
        if record.request_id in self.unanswered:
            raise LedgerUnavailable


class Gateway:
    """One start of a gateway."""

    def __init__(self, connection: RedisClient, incarnation: Incarnation, store: Away, ends: Outbox) -> None:
        self.connection, self.incarnation, self.store, self.ends = connection, incarnation, store, ends

    def record(self, fields: dict[str, Any]) -> ExchangeRecord:
        record = ExchangeRecord(**{**DRAFT, "incarnation": self.incarnation.id, **fields})
        return record._replace(source=Source(record.source))

    async def reserve(self, fields: Any, limits: Any, *, price: bool = True, once: str | None = None) -> str:
        asked = read_limits(limits), Ask(*ASK)
        answer = await self.store.reserve(self.record(fields), *asked, price=PRICE if price else None, once=once)
        return repr(answer)

    async def progress(self, fields: Any) -> None:
        await self.store.progress(self.record(fields))

    async def trim(self, fields: Any, limits: Any, spare: int) -> None:
        await self.store.trim(self.record(fields), read_limits(limits), spare)

    async def settle(self, fields: Any, limits: Any, *, held: int = 0, away: bool = False) -> bool:
        if away:
            self.store.unanswered.add(fields["request_id"])
        return await self.ends.settle(Settle(self.record(fields), read_limits(limits), held))

    async def release(self, fields: Any, limits: Any) -> None:
        await self.ends.release(Release(self.record(fields), read_limits(limits)))

    async def sweep(self) -> int:
        return await Sweeper(self.connection, self.store).sweep()

    async def dies(self) -> None:
        """Let it be long since it beat, and since it reserved what is open."""
        await self.connection.call("ZINCRBY", keys.INCARNATIONS, -LONG_AGO_US, self.incarnation.id)
        for tenant in await self.connection.call("SMEMBERS", keys.TENANTS):
            for member in await self.connection.call("ZRANGE", keys.open_index(tenant), 0, -1):
                if member.startswith(self.incarnation.id):
                    await self.connection.call("ZINCRBY", keys.open_index(tenant), -LONG_AGO_US, member)

    async def rows(self) -> list[Any]:
        unreadable: list[Any] = []
        every = sorted(await self.connection.call("SMEMBERS", keys.TENANTS))
        found = ledger.read(self.connection, every, 0, 2**52, unreadable=lambda *row: unreadable.append(row))
        return [[entry.kind, entry.record._asdict()] async for entry in found] + unreadable

    async def used_of_all(self) -> list[Any]:
        subjects = ({name: DRAFT[name] for name in ODD}, ODD)
        each = [(subject, name, limits) for subject in subjects for name, limits in (("few", FEW), ("all", ALL))]
        return [[subject, name, await self.used(subject, limits)] for subject, name, limits in each]

    async def used(self, subject: dict[str, str], limits: Any) -> list[int]:
        return [each.used for each in await self.store.statuses(Subject(**subject), read_limits(limits))]


@asynccontextmanager
async def gateway(redis: str, data_dir: Path) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(RedisClient(redis, deadline_s=10))
        incarnation = await stack.enter_async_context(Incarnation(connection, beat_s=3600, memory=data_dir / "epoch"))
        store = Away(connection, incarnation)
        journal = await stack.enter_async_context(Journal(data_dir / "journal", incarnation.id))
        told = {"billed": lambda record: None, "corrected": lambda record: None}
        ends = Outbox(store, journal, **told, failed=lambda: None)
        await stack.enter_async_context(Replay(store, journal, incarnation.beat, **told))
        yield Gateway(connection, incarnation, store, ends)


async def record(redis: str, folder: Path) -> None:
    """Write down what two gateways leave in an empty Redis and in a log; then, what their heir makes of it."""
    async with gateway(redis, folder / "home") as dead, gateway(redis, folder / "other") as living:
        await generation.accept(dead.connection, "01JC0LDER00000000000000000")
        await ended(dead, living)
        await open_ones(dead, living)
        for kind, name, within in REVOKED:
            until_us = None if kind is Kind.USER else 4_102_444_800_000_000
            await revocations.revoke(dead.connection, Named(kind, name, within), until_us)
        await asyncio.sleep(generation.ON_DISK_AFTER_S)
        await dead.incarnation.beat()
        await dead.dies()
        await dead.connection.call("ZINCRBY", keys.INCARNATIONS, 10**15, living.incarnation.id)
        dump(redis, folder / "redis.jsonl")
        shutil.copy(folder / "home" / "epoch", folder / "epoch")
        shutil.copytree(folder / "home" / "journal" / dead.incarnation.id, folder / "journal" / "of-the-dead")
        (log,) = (folder / "journal").glob("*/*.wal")
        log.write_bytes(log.read_bytes() + log.read_bytes()[:100])
        log.with_name("lock").unlink()
        shutil.copytree(folder / "journal", folder / "heir" / "journal")
        async with gateway(redis, folder / "heir") as heir:
            made = {"swept": await heir.sweep(), "rows": await heir.rows(), "used": await heir.used_of_all()}
            made["used_at_us"] = int((await heir.connection.call("TIME"))[0]) * 1_000_000
            whose = {"dead": dead.incarnation.id, "living": living.incarnation.id, "heir": heir.incarnation.id}
        told = whose | {"limits": {"few": FEW, "all": ALL}} | made
        (folder / "expected.json").write_text(json.dumps(told, ensure_ascii=False) + "\n")
    for scratch in ("home", "other", "heir"):
        shutil.rmtree(folder / scratch)


async def ended(dead: Gateway, living: Gateway) -> None:
    """Leave every way in which a reservation has ended."""
    for name, limits in {"settled": ALL, "expired": ALL, "corrected": FEW, "returned": FEW}.items():
        await dead.reserve({"request_id": name}, limits)
    for name in ("unobserved", "released"):
        await dead.reserve({"request_id": name}, FEW, once=f"the key of {name}")
    used = {"prompt_tokens": 90, "cached_tokens": 32, "completion_tokens": 40, "charge_micros": 553}
    await dead.settle({"request_id": "settled", **used}, ALL)
    await dead.settle({"request_id": "unobserved", "outcome": "client_closed", "source": "cut"}, FEW, held=WHOLE)
    await dead.release({"request_id": "released"}, FEW)
    await dead.settle({"request_id": "never-reserved", **used}, ALL)
    for name in ("expired", "corrected", "returned"):
        await dead.progress({"request_id": name, "prompt_tokens": 80, "completion_tokens": 7})
    await dead.dies()
    await living.sweep()
    await dead.incarnation.beat()
    await dead.settle({"request_id": "corrected", **used}, FEW)
    await dead.release({"request_id": "returned"}, FEW)
    # On the disk, and not in Redis: of one that a sweep billed by less, and of one that is open.
    await dead.settle({"request_id": "expired", **used}, ALL, away=True)
    await dead.reserve({"request_id": "owed"}, ALL)
    await dead.settle({"request_id": "owed", **used}, ALL, held=30, away=True)
    await dead.settle({"request_id": "owed-never-reserved", **used}, FEW, away=True)


async def open_ones(dead: Gateway, living: Gateway) -> None:
    """Leave every state of an open reservation."""
    await dead.reserve({"request_id": "pending"}, FEW)
    await dead.reserve({"request_id": "odd-names", **ODD}, ALL, once="a key / ü")
    await dead.reserve({"request_id": "without-limits", "price_version": "", "currency": ""}, [], price=False)
    await dead.reserve({"request_id": "progressed"}, ALL)
    await dead.progress({"request_id": "progressed", "prompt_tokens": 90, "completion_tokens": 40, "replica": "demo-1"})
    await dead.reserve({"request_id": "of-a-second-try"}, FEW)
    await dead.progress({"request_id": "of-a-second-try", "prompt_tokens": 90, "completion_tokens": 40})
    await dead.progress({"request_id": "of-a-second-try", "attempts": 2, "ttft_ms": None, "wasted_tokens": 130})
    await dead.reserve({"request_id": "trimmed"}, ALL)
    await dead.trim({"request_id": "trimmed"}, ALL, 70)
    await dead.progress({"request_id": "trimmed", "prompt_tokens": 30, "completion_tokens": 1})
    await living.reserve({"request_id": "of-the-living"}, FEW)
    await living.progress({"request_id": "of-the-living", "prompt_tokens": 90, "completion_tokens": 5})


def dump(redis: str, file: Path) -> None:
    """Write down every key: its name, its type, when it expires (ms), its value; a character is a byte."""
    with Redis.from_url(redis) as raw:
        lines = [json.dumps({"now_us": raw.time()[0] * 1_000_000})]
        for name in sorted(raw.keys("*")):
            kind = raw.type(name).decode()
            lines.append(json.dumps(plain([name, kind, raw.pttl(name), VALUE[kind](raw, name)])))
    file.write_text("\n".join(lines) + "\n")


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return sorted([plain(name), plain(each)] for name, each in value.items())
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


VALUE: dict[str, Callable[[Redis, bytes], Any]] = {
    "string": Redis.get,
    "hash": Redis.hgetall,
    "set": lambda raw, name: sorted(raw.smembers(name)),
    "zset": lambda raw, name: raw.zrange(name, 0, -1, withscores=True),
    "stream": Redis.xrange,
}


async def serve(redis: str, data_dir: Path) -> None:
    """Do what each line says, `[step, arguments, named arguments]`, and answer with its result; first of all its id."""
    async with gateway(redis, data_dir) as served:
        answer: Any = served.incarnation.id
        while True:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line:
                return
            step, args, named = json.loads(line)
            try:
                answer = await getattr(served, step)(*args, **named)
            except (LedgerUnavailable, ValueError) as fault:
                answer = {"fault": repr(fault)}


if __name__ == "__main__":
    asyncio.run({"record": record, "serve": serve}[sys.argv[1]](sys.argv[2], Path(sys.argv[3])))
