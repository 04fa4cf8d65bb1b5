"""Every error of a site reads like OpenAI's, and none of them quotes what was sent."""

import httpx
import pytest

from proxy.api.reports import Reports
from proxy.api.site import public_site
from proxy.edge.edge import Edge
from tests.unit.proxy.api.conftest import BothWays, Ping
from tests.unit.proxy.gateway import CHAT_BODY, Gateway
from tests.unit.proxy.memory_rows import MemoryRows


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


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", {"OPTIONS", "POST"}),
        ("HEAD", "/v1/embeddings", {"OPTIONS", "POST"}),
        ("DELETE", "/v1/models", {"GET", "OPTIONS"}),
        ("PUT", "/health/live", {"GET", "OPTIONS"}),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_told_which_it_does(
    public: httpx.AsyncClient, bearer: dict[str, str], method: str, path: str, *, allow: set[str]
) -> None:
    answer = await public.request(method, path, headers=bearer)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health/live"])
async def test_options_tells_the_methods_without_a_token(public: httpx.AsyncClient, path: str) -> None:
    answer = await public.options(path)
    assert answer.is_success
    assert "OPTIONS" in answer.headers["allow"]
    assert len(answer.headers["x-request-id"]) == 26


async def test_head_answers_as_get_does(public: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    for path in ("/health/live", "/v1/models", "/v1/quota"):
        assert (await public.head(path, headers=bearer)).status_code == 200
    assert (await public.head("/v1/models")).status_code == 401


# --- browsers

PAGE = "https://console.example.com"


@pytest.fixture
def browsable(gw: Gateway, redis: Ping, edge: Edge) -> httpx.AsyncClient:
    reports = Reports(MemoryRows().reader)
    site = public_site(gw.exchange, gw.pools, gw.store, redis, edge=edge, reports=reports, cors_origins=[PAGE])  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(BothWays(site, edge)), base_url="http://gateway")


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-stainless-os",
    }


async def test_a_listed_page_may_ask_and_read_what_its_limits_are(
    browsable: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    asked = await browsable.options("/v1/chat/completions", headers=preflight(PAGE))
    assert asked.is_success
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert len(asked.headers["x-request-id"]) == 26
    assert {"authorization", "content-type", "x-stainless-os"} <= set(
        asked.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    )
    answer = await browsable.post("/v1/chat/completions", json=CHAT_BODY, headers=bearer | {"origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("x-request-id", "retry-after", "x-ratelimit-remaining-tokens"))


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{PAGE}.evil.example", f"x{PAGE}", "http://console.example.com", "null"]
)
async def test_a_page_that_is_not_listed_may_not(
    browsable: httpx.AsyncClient, bearer: dict[str, str], origin: str
) -> None:
    asked = await browsable.options("/v1/chat/completions", headers=preflight(origin))
    assert "access-control-allow-origin" not in asked.headers
    answer = await browsable.get("/v1/models", headers=bearer | {"origin": origin})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("origin", "method"), [("https://evil.example", "POST"), (PAGE, "DELETE")])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/nothing"])
async def test_a_page_that_may_not_ask_reads_the_envelope(
    browsable: httpx.AsyncClient, origin: str, method: str, path: str
) -> None:
    answer = await browsable.options(path, headers=preflight(origin) | {"access-control-request-method": method})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_request", None)
    assert "origin may not" in error["message"]
    assert len(answer.headers["x-request-id"]) == 26
    assert answer.headers["vary"] == "Origin"


async def test_no_page_may_without_a_list(public: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    answers = [
        await public.options("/v1/models", headers=preflight(PAGE)),
        await public.get("/v1/models", headers=bearer | {"origin": PAGE}),
    ]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]
