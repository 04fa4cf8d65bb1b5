"""
What gateways of older commits left in Redis and in a log (data/versions), put into an empty Redis and a folder of now.

Redis' clock has gone on since: what tells a time by it is moved, as if all had been written a minute ago, so that what
expires within one is gone. All else is byte for byte what was recorded, the log whole.
The forms stand in proxy/store/lua/lib/.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack, unpack
from typing import Any, cast

from redis import Redis

from policies.quota import Limit, Per, Scope, Unit
from proxy.billing.record import ExchangeRecord, Source

COMMITS = ("300c876", "af0df1f")
"""Whose texts are kept, the latest last: the first wrote version 2 without its number in reservations."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recorded(commit: str) -> Path:
    """Return the folder of what gateways of a commit left."""
    return Path(__file__).parent / "data" / "versions" / commit


def expected(commit: str) -> dict[str, Any]:
    """Return what a gateway of that commit made of what was recorded, as its heir."""
    return cast("dict[str, Any]", json.loads((recorded(commit) / "expected.json").read_text()))


def record_of(told: dict[str, Any]) -> ExchangeRecord:
    """Return the record that version 2 told by these fields: of whole millionths, without what it did not know."""
    charge = told.pop("charge_micros") * 1_000_000
    record = ExchangeRecord(**told, charge_picos=charge, reasoning_tokens=0, client_request_id="")
    return record._replace(source=Source(record.source))


def limits(lines: list[Any]) -> tuple[Limit, ...]:
    """Return limits as they are told in what is expected."""
    return tuple(
        Limit(Scope(scope), Unit(unit), amount, Per(per) if per else None) for scope, unit, amount, per in lines
    )


def log_in(data_dir: Path, commit: str) -> Path:
    """Put the log into a folder, as its gateway left it when it was killed; return where."""
    shutil.copytree(recorded(commit) / "journal", data_dir / "journal")
    return data_dir / "journal"


def restore(url: str, commit: str) -> int:
    """Put what was in Redis into an empty one; return how far it was moved in time (microseconds)."""
    told, *lines = map(json.loads, (recorded(commit) / "redis.jsonl").read_text().splitlines())
    with Redis.from_url(url) as redis:
        moved = _Moved(told["now_us"], cast("tuple[int, int]", redis.time())[0] * 1_000_000)
        for name, kind, left_ms, value in lines:
            if not 0 <= left_ms <= 60_000:
                _PUT[kind](redis, name, moved.value(name, value))
            if left_ms > 60_000:
                redis.pexpire(name, left_ms - 60_000)
    return moved.by_us


@dataclass(frozen=True)
class _Moved:
    """From one time to another, both on Redis' clock."""

    from_us: int
    to_us: int

    @property
    def by_us(self) -> int:
        return self.to_us - self.from_us

    def value(self, name: str, value: Any) -> Any:
        if ":used:" in name:
            return self._counter(value.encode("latin-1"))
        if ":reserved:" in name:
            return self._reservation(value)
        if ":open" in name or ":in-flight:" in name or name == "tollway:incarnations":
            return [(member, score + self.by_us) for member, score in value]
        return value

    def _counter(self, packed: bytes) -> bytes:
        """Move a counter: when it is silent, when a rate was looked at, which window it is."""
        codes = packed[: packed.index(0)]
        silent_ms, *numbers = unpack(f"<{1 + 3 * len(codes)}d", packed[len(codes) + 1 :])
        for at, code in enumerate(codes):
            window = {1: 0, 2: 1}.get(code % 5)
            if window is not None:
                numbers[3 * at + 1] = _ends(self.to_us)[window]
            elif numbers[3 * at + 2]:
                numbers[3 * at + 2] += self.by_us
        return codes + b"\0" + pack(f"<{1 + len(numbers)}d", silent_ms + self.by_us / 1000, *numbers)

    def _reservation(self, text: str) -> str:
        """Move which windows a reservation was taken from: a month, then a day."""
        lines = text.split("\n")
        at, first = (0, 3) if text.startswith("PENDING ") else (1, 2)
        if len(lines) > 1:
            words = lines[at].split(" ")
            marks = [word for word in words[first:] if word.startswith("v")]
            told = words[first : len(words) - len(marks)]
            assert [*map(int, told)] in ([], list(_ends(self.from_us)))
            ends = map(str, _ends(self.to_us)) if told else ()
            lines[at] = " ".join((*words[:first], *ends, *marks))
        return "\n".join(lines)


def _ends(now_us: int) -> tuple[int, int]:
    """Return the first day after this month and the one after today, in days since 1970."""
    today = (_EPOCH + timedelta(microseconds=now_us)).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return (next_month - _EPOCH).days, (today - _EPOCH).days + 1


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def _stream(redis: Any, name: str, rows: list[Any]) -> None:
    for entry_id, fields in rows:
        redis.xadd(name, {key: _bytes(value) for key, value in fields}, id=entry_id)


_PUT: dict[str, Callable[[Any, str, Any], Any]] = {
    "string": lambda redis, name, value: redis.set(name, _bytes(value)),
    "hash": lambda redis, name, pairs: redis.hset(name, mapping=dict(pairs)),
    "set": lambda redis, name, members: redis.sadd(name, *map(_bytes, members)),
    "zset": lambda redis, name, members: redis.zadd(name, dict(members)),
    "stream": _stream,
}
