"""
`GET /v1/organization/usage/completions` and `.../embeddings`: what was used, in OpenAI's shape.

A tenant is OpenAI's project. `usage:self` reads the user's own rows, `usage:read` the tenant's, `usage:all` those of
everybody; the widest scope of a token counts. What `tollway usage` tells of a period is the sum of both paths:
embeddings are in the one, everything else in the other.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from proxy.api.callers import Callers
from proxy.api.reports import Bucket, Reports
from proxy.api.usage_page import GROUPS, UsagePage
from proxy.billing.query import UsageQuery
from proxy.errors import ApiError, Code
from proxy.identity.principal import Principal

ALL, READ, SELF = "usage:all", "usage:read", "usage:self"
_EMBEDDINGS = {"endpoint": frozenset({"embeddings"})}
_NOTHING: dict[str, None] = dict.fromkeys(("project_id", "user_id", "api_key_id", "model"))
"""What a result is not grouped by is null in it."""

Filters = Mapping[str, frozenset[str]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UsageKind:
    """One of the paths: which rows it tells of, and which sums, by OpenAI's names."""

    name: str
    sums: Mapping[str, str]
    only: Filters = field(default_factory=dict)
    without: Filters = field(default_factory=dict)


COMPLETIONS = UsageKind(
    "completions",
    {
        "input_tokens": "prompt_tokens",
        "input_cached_tokens": "cached_tokens",
        "output_tokens": "completion_tokens",
        "num_model_requests": "requests",
    },
    without=_EMBEDDINGS,
)
EMBEDDINGS = UsageKind(
    "embeddings", {"input_tokens": "prompt_tokens", "num_model_requests": "requests"}, only=_EMBEDDINGS
)


def usage(callers: Callers, reports: Reports) -> list[HTTPRouteHandler]:
    """Return the handlers of both paths."""

    async def page(request: Request[Any, Any, Any], kind: UsageKind) -> dict[str, Any]:
        principal = await callers.require(request, ALL, READ, SELF)
        asked = UsagePage.of(request.scope["query_string"], int(time.time()))
        query = UsageQuery(
            period=asked.period,
            group_by=asked.group_by,
            only={**kind.only, **_allowed(principal, asked.only)},
            without=kind.without,
        )
        with reports.reader(principal.tenant):
            buckets = await reports.page(query, asked.width.s * 1_000_000, asked.limit)
        return _shown(asked, kind, buckets)

    @get("/v1/organization/usage/completions")
    async def completions(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return await page(request, COMPLETIONS)

    @get("/v1/organization/usage/embeddings")
    async def embeddings(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return await page(request, EMBEDDINGS)

    return [completions, embeddings]


def _allowed(principal: Principal, asked: Filters) -> Filters:
    """Return the filters of what was asked and may be read; raise ApiError for who asks for others' rows by name."""
    own: Filters = {"tenant": frozenset({principal.tenant}), "user": frozenset({principal.user})}
    if ALL in principal.scopes:
        return asked
    kept = own if READ not in principal.scopes else {"tenant": own["tenant"]}
    for name, values in kept.items():
        if not asked.get(name, values) <= values:
            message = f"This token reads the usage of its own {name} alone; another needs the scope {ALL}."
            raise ApiError(Code.PERMISSION_DENIED, message, param={"tenant": "project_ids", "user": "user_ids"}[name])
    return {**asked, **kept}


def _shown(asked: UsagePage, kind: UsageKind, buckets: list[Bucket]) -> dict[str, Any]:
    end_us = buckets[-1].period.to_us
    more = end_us < asked.period.to_us
    return {
        "object": "page",
        "data": [_bucket(bucket, kind, asked.group_by) for bucket in buckets],
        "has_more": more,
        "next_page": asked.cursor(end_us) if more else None,
        "unreadable_rows": _unreadable(buckets),
    }


def _bucket(bucket: Bucket, kind: UsageKind, group_by: tuple[str, ...]) -> dict[str, Any]:
    return {
        "object": "bucket",
        "start_time": bucket.period.from_us // 1_000_000,
        "end_time": bucket.period.to_us // 1_000_000,
        "results": list(_results(bucket, kind, group_by)),
    }


def _results(bucket: Bucket, kind: UsageKind, group_by: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield one result for each group, whatever currencies it paid in: no money is told here."""
    theirs = {ours: name for name, ours in GROUPS.items()}
    for names, rows in groupby(bucket.report.rows(), attrgetter("names")):
        sums = [row.sums for row in rows]
        yield {
            "object": f"organization.usage.{kind.name}.result",
            **{name: sum(getattr(each, ours) for each in sums) for name, ours in kind.sums.items()},
            **_NOTHING,
            **{theirs[ours]: value for ours, value in zip(group_by, names, strict=True)},
        }


def _unreadable(buckets: list[Bucket]) -> int:
    """Return how many rows the page lacks, and log the first."""
    lacking = [bucket.report.unreadable for bucket in buckets if bucket.report.unreadable.count]
    count = sum(each.count for each in lacking)
    if lacking and lacking[0].first:
        tenant, entry_id = lacking[0].first
        reason = f"{count} rows are of no known version, the first is {entry_id}"
        _log.error("ledger_unreadable", extra={"tenant": tenant, "reason": reason})
    return count
