import httpx
import pytest

from engine.protocols.registry import PROTOCOLS
from tests.transcripts import transcript
from tests.unit.proxy.gateway import CHAT_BODY, Gateway


async def test_a_chat_goes_through_the_exchange(public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str]) -> None:
    answer = await public.post("/v1/chat/completions", json=CHAT_BODY, headers=bearer)
    assert (answer.status_code, answer.content) == (200, transcript("100-chat").body)
    assert answer.headers["x-request-id"] == gw.store.ledger[0].request_id


async def test_a_slash_behind_a_path_changes_nothing(
    public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str]
) -> None:
    answer = await public.post("/v1/chat/completions/", json=CHAT_BODY, headers=bearer)
    assert (answer.status_code, answer.content) == (200, transcript("100-chat").body)
    assert len(gw.store.ledger) == 1
    assert (await public.get("/v1/models/", headers=bearer)).status_code == 200
    assert (await public.post("/v1/chat/completions//", json=CHAT_BODY, headers=bearer)).status_code in (404, 405)


@pytest.mark.parametrize("path", [protocol.path for protocol in PROTOCOLS.values()])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_forwarded_paths_take_post_alone(public: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await public.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/tokenize",
        "/v1/load_lora_adapter",
        "/sleep",
        "/reset_prefix_cache",
        "/invocations",
        "/abort_requests",
        "/admin/replicas",
        "/v1/chat/completions/../../../metrics",
        "/v1/chat/completions/render",
    ],
)
async def test_no_other_path_of_the_engine_is_reached(
    public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str], path: str
) -> None:
    answer = await public.post(path, json={}, headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) in [(404, "not_found"), (405, "method_not_allowed")]
    assert gw.upstream.asked == []


async def test_models_are_the_plans_own_with_their_aliases(public: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    answer = await public.get("/v1/models", headers=bearer)
    assert answer.status_code == 200
    assert [(model["id"], model["root"], model["object"]) for model in answer.json()["data"]] == [
        ("demo", "demo", "model"),
        ("gpt-4o-mini", "demo", "model"),
    ]


@pytest.mark.parametrize("name", ["demo", "gpt-4o-mini"])
async def test_a_model_is_found_by_any_of_its_names(
    public: httpx.AsyncClient, bearer: dict[str, str], name: str
) -> None:
    model = (await public.get(f"/v1/models/{name}", headers=bearer)).json()
    assert (model["id"], model["root"], model["max_model_len"]) == (name, "demo", 4096)


@pytest.mark.parametrize("name", ["nobody", "secret", "org/nobody"])
async def test_a_model_of_others_does_not_exist(public: httpx.AsyncClient, bearer: dict[str, str], name: str) -> None:
    answer = await public.get(f"/v1/models/{name}", headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo", "/v1/quota"])
async def test_without_a_token_nothing_is_told(public: httpx.AsyncClient, path: str) -> None:
    answer = await public.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
