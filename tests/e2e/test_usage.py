"""Finance over HTTP: the real admin client of the `openai` package adds up to what `tollway usage` tells."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.admin.organization.usage_completions_response import DataResultOrganizationUsageCompletionsResult

from tests.e2e.gateway import Running

USERS = ("fin-ada", "fin-bob", "fin-eve")


def client(running: Running, *scopes: str, tenant: str = "acme", user: str = "fin-ada") -> AsyncOpenAI:
    token = running.token(tenant, user, scopes=scopes)
    return AsyncOpenAI(base_url=f"{running.url}/v1", api_key=token, admin_api_key=token, max_retries=0)


async def results(running: Running, scope: str, **asked: Any) -> list[DataResultOrganizationUsageCompletionsResult]:
    """Return what all pages hold."""
    found: list[DataResultOrganizationUsageCompletionsResult] = []
    async with client(running, scope) as asking:
        while True:
            page = await asking.admin.organization.usage.completions(**asked)
            for bucket in page.data:
                for result in bucket.results:
                    assert isinstance(result, DataResultOrganizationUsageCompletionsResult)
                    found.append(result)
            if not page.has_more:
                return found
            asked["page"] = page.next_page


def told(running: Running, begin_s: int, end_s: int) -> dict[tuple[str, str], dict[str, int]]:
    """Return what the command line tells of these users, by tenant and user."""
    period = [datetime.fromtimestamp(second, UTC).isoformat() for second in (begin_s, end_s)]
    printed = running.tollway(
        "usage", "--from", period[0], "--to", period[1], "--group-by", "tenant,user", "--format", "json"
    )
    return {(row["tenant"], row["user"]): row for row in json.loads(printed)["rows"] if row["user"] in USERS}


async def test_the_admin_client_pages_to_the_sums_of_the_command_line(running: Running) -> None:
    begin_s = int(time.time()) - 180  # more than one page of a minute each
    for tenant in ("acme", "globex"):
        for number, user in enumerate(USERS):
            async with client(running, tenant=tenant, user=user) as asking:
                for _ in range(number + 1):
                    await asking.chat.completions.create(
                        model="demo",
                        messages=[{"role": "user", "content": f"Hello from {user}"}],
                        max_completion_tokens=9,
                    )
    end_s = int(time.time()) + 2
    lines = told(running, begin_s, end_s)

    sums = Counter[tuple[str, str, str]]()
    asked: dict[str, Any] = {"start_time": begin_s, "end_time": end_s, "bucket_width": "1m", "limit": 1}
    asked["user_ids"] = list(USERS)
    for result in await results(running, "usage:all", group_by=["project_id", "user_id", "model"], **asked):
        tenant, user = result.project_id or "", result.user_id or ""
        assert result.model == "demo"
        sums[tenant, user, "requests"] += result.num_model_requests
        sums[tenant, user, "prompt_tokens"] += result.input_tokens
        sums[tenant, user, "cached_tokens"] += result.input_cached_tokens or 0
        sums[tenant, user, "completion_tokens"] += result.output_tokens
    assert {(tenant, user) for tenant, user, _ in sums} == set(lines)
    for tenant in ("acme", "globex"):
        for number, user in enumerate(USERS):
            assert sums[tenant, user, "requests"] == number + 1
    assert sums == {
        (*names, counted): line[counted]
        for names, line in lines.items()
        for counted in ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    }

    own = await results(running, "usage:read", group_by=["user_id"], **asked)
    assert sum(result.num_model_requests for result in own) == sum(
        line["requests"] for (tenant, _), line in lines.items() if tenant == "acme"
    )
    [mine] = await results(running, "usage:self", **asked | {"bucket_width": "1d", "user_ids": ["fin-ada"]})
    assert mine.output_tokens == lines["acme", "fin-ada"]["completion_tokens"]


async def test_the_admin_client_hears_why_not(running: Running) -> None:
    async with client(running) as nobody:
        with pytest.raises(openai.PermissionDeniedError) as denied:
            await nobody.admin.organization.usage.completions(start_time=1)
    assert denied.value.code == "permission_denied"
    async with client(running, "usage:read") as reader:
        with pytest.raises(openai.BadRequestError) as refused:
            await reader.admin.organization.usage.completions(start_time=1, batch=True)
    assert refused.value.param == "batch"
