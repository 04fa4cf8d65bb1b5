"""Every error of a site reads like OpenAI's, and none of them quotes what was sent."""

import httpx
import pytest

from tests.unit.proxy.gateway import Gateway


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/quota?model=a&model=b", 404, "model_not_found"),
    ],
)
async def test_errors_have_openais_envelope(
    public: httpx.AsyncClient, bearer: dict[str, str], method: str, path: str, *, status: int, code: str
) -> None:
    answer = await public.request(method, path, headers=bearer)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == code


async def test_a_bug_is_told_in_the_log_alone(
    public: httpx.AsyncClient,
    gw: Gateway,
    bearer: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gw.store.broken = LookupError("innermost")
    answer = await public.get("/v1/quota", headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "innermost" not in answer.text
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_operators_paths_are_not_on_the_public_site_nor_the_other_way(
    public: httpx.AsyncClient, admin: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    assert (await public.get("/metrics", headers=bearer)).status_code == 404
    assert (await admin.get("/v1/models", headers=bearer)).status_code == 404
