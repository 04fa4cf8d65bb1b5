"""
What a page of usage is asked by: OpenAI's parameters, read strictly.

A list is given as `group_by=a&group_by=b` or with brackets (`group_by[]=a`), as OpenAI's own clients do. What is not
known here is refused by name, since a filter that is passed over would make a sum too large in silence.

Decision: the cursor of the next page tells where it begins and where the period ends. Because a page without `end_time`
ends now, and "now" must be the same for every page of one report; nothing in it is secret or trusted: the token decides
what may be read.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl

from proxy.billing.query import Period
from proxy.errors import InvalidRequest

GROUPS = {"project_id": "tenant", "user_id": "user", "model": "model"}
"""OpenAI's names of what usage is grouped by, and ours."""
FILTERS = {"project_ids": "tenant", "user_ids": "user", "models": "model"}
PARAMETERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Width:
    """One `bucket_width`. Units: seconds; buckets a page."""

    s: int
    limit: int
    """Where none is asked."""
    limit_max: int


WIDTHS = {"1m": Width(60, 60, 1440), "1h": Width(3600, 24, 168), "1d": Width(86_400, 7, 31)}
_SCALARS = ("start_time", "end_time", "bucket_width", "limit", "page")
_LISTS = ("group_by", *FILTERS)
_NUMBER = re.compile(r"\d{1,10}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}(\[\])?")
_CURSOR = re.compile(r"(\d{1,10})_(\d{1,10})", re.ASCII)


@dataclass(frozen=True, slots=True)
class UsagePage:
    """One page, understood."""

    period: Period
    """From this page's first bucket to the end of the last page's last."""
    width: Width
    limit: int
    group_by: tuple[str, ...]
    only: Mapping[str, frozenset[str]]
    """Filters, by our names."""

    @classmethod
    def of(cls, query: bytes, now_s: int) -> Self:
        """Read a query string; raise InvalidRequest."""
        scalars, lists = _sorted_out(query)
        width = _width(scalars.get("bucket_width", "1d"))
        return cls(
            _period(scalars, now_s),
            width,
            _limit(scalars.get("limit"), width),
            tuple(_group(name) for name in dict.fromkeys(lists.get("group_by", ()))),
            {ours: frozenset(lists[theirs]) for theirs, ours in FILTERS.items() if theirs in lists},
        )

    def cursor(self, from_us: int) -> str:
        """Return the `page` that goes on at an instant of this period."""
        return f"{from_us // 1_000_000}_{self.period.to_us // 1_000_000}"


def _sorted_out(query: bytes) -> tuple[dict[str, str], dict[str, list[str]]]:
    scalars: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for written, value in _pairs(query):
        name = written.removesuffix("[]")
        if name in _LISTS:
            lists.setdefault(name, []).append(value)
        elif written not in _SCALARS:
            raise _unknown(written)
        elif scalars.setdefault(name, value) != value:
            raise InvalidRequest(f"`{name}` is given twice.", name)
    return scalars, lists


def _unknown(name: str) -> InvalidRequest:
    """Return the refusal, which repeats a name only where it is one."""
    named = name if _NAME.fullmatch(name) else None
    return InvalidRequest(
        f"`{named}` is no parameter of this path." if named else "A parameter has no known name.", named
    )


def _pairs(query: bytes) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise InvalidRequest(f"The query is not at most {PARAMETERS_MAX} parameters, percent-encoded UTF-8.") from None


def _period(scalars: Mapping[str, str], now_s: int) -> Period:
    if "start_time" not in scalars:
        raise InvalidRequest("`start_time` is missing: seconds since the epoch.", "start_time")
    begin = _seconds(scalars["start_time"], "start_time")
    end = _seconds(scalars["end_time"], "end_time") if "end_time" in scalars else None
    if "page" in scalars:
        begin, end = _after(scalars["page"], begin, end)
    end = now_s if end is None else end
    if begin >= end:
        raise InvalidRequest("`start_time` must lie before `end_time`, which is now where none is given.", "start_time")
    return Period(begin * 1_000_000, end * 1_000_000)


def _after(cursor: str, begin: int, end: int | None) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor)
    at, until = (int(found[1]), int(found[2])) if found else (0, 0)
    if not begin <= at < until or end not in (None, until):
        raise InvalidRequest("`page` is not the `next_page` of a report of this period.", "page")
    return at, until


def _seconds(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"`{name}` is not a whole number of seconds since the epoch.", name)
    return int(text)


def _width(name: str) -> Width:
    if name not in WIDTHS:
        raise InvalidRequest(f"`bucket_width` is not one of {', '.join(WIDTHS)}.", "bucket_width")
    return WIDTHS[name]


def _limit(text: str | None, width: Width) -> int:
    if text is None:
        return width.limit
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= width.limit_max:
        raise InvalidRequest(f"`limit` is not a number from 1 to {width.limit_max} at this `bucket_width`.", "limit")
    return int(text)


def _group(name: str) -> str:
    if name not in GROUPS:
        raise InvalidRequest(f"`group_by` is not some of {', '.join(GROUPS)}.", "group_by")
    return GROUPS[name]
