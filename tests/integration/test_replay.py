"""A real redis-server that is killed and comes back without what it was told last: the write-ahead log has it."""

import os
import signal
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from policies.quota import Ask, Limit, Per, Scope, Subject, Unit
from proxy.billing.record import ExchangeRecord
from proxy.redis.client import RedisClient
from proxy.store.journal.journal import Journal
from proxy.store.ledger import read
from proxy.store.membership.incarnation import Incarnation
from proxy.store.outbox.end import Settle
from proxy.store.outbox.outbox import Outbox
from proxy.store.outbox.replay import Replay
from proxy.store.redis_reservations import RedisReservations
from tests.records import RECORD
from tests.redis_server import redis_in

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY),)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)
TOKENS = RECORD.prompt_tokens + RECORD.completion_tokens


def killed_redis(folder: Path) -> AbstractContextManager[str]:
    """Run a redis-server on the data in `folder`, and kill it as `kill -9` does."""
    return redis_in(folder, "--appendonly", "yes", ends_by=signal.SIGKILL)


def log_of(folder: Path) -> Path:
    """Return the append-only file that the server writes."""
    return max((path for path in folder.rglob("*.aof*") if "manifest" not in path.name), key=os.path.getmtime)


async def test_what_redis_lost_with_its_last_second_is_charged_and_billed_again_once(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        folder = Path(name)
        records = [RECORD._replace(request_id=f"R{number}", started_at=time.time_ns() // 1_000) for number in range(5)]
        billed: list[str] = []
        with killed_redis(folder) as url:
            connection = RedisClient(url, deadline_s=10)
            incarnation = Incarnation(connection)
            await incarnation.beat()
            store = RedisReservations(connection, incarnation)
            for record in records[:4]:
                await store.reserve(record, LIMITS, ASK)
            synced = log_of(folder).stat().st_size
            journal = Journal(tmp_path / "journal", incarnation.id)
            await journal.__aenter__()
            corrected: list[ExchangeRecord] = []
            replay = Replay(
                store,
                journal,
                incarnation.beat,
                billed=lambda record: billed.append(record.request_id),
                corrected=corrected.append,
            )
            outbox = Outbox(store, journal, billed=lambda record: None, corrected=corrected.append, failed=lambda: None)
            for each in (replay, outbox):
                incarnation.when_restarted(each.restarted)
            for record in records:
                assert await outbox.settle(Settle(record, LIMITS, held=0))
        os.truncate(log_of(folder), synced)
        with killed_redis(folder):
            assert [entry async for entry in read(connection, [RECORD.tenant], 0, 2**52)] == []
            await replay.trim()
            await incarnation.beat()
            for _ in range(2):
                await replay.send_doubted()
                replay.restarted()
            entries = [entry async for entry in read(connection, [RECORD.tenant], 0, 2**52)]
            assert sorted(entry.record.request_id for entry in entries) == [f"R{number}" for number in range(5)]
            assert [status.used for status in await store.statuses(SUBJECT, LIMITS)] == [5 * TOKENS]
            assert (billed, corrected) == ([], []), "they were told when they were settled"
            await journal.__aexit__(None, None, None)
            await connection.__aexit__(None, None, None)
