"""Engines that need more than a URL: TLS with certificates on both sides, a key, another name for the model."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.asks import CHAT, chat
from tests.certificates import Authority
from tests.e2e.gateway import ANYWHERE, Running, gateway_of
from tests.secured_engine import Front, secured
from tests.sim_process import running_sim

CONFIG = (
    ANYWHERE
    + """
[[models]]
name = "demo"
aliases = ["gpt-4o-mini"]
context_tokens = 8192
upstream_model = "meta/Llama"
api_key_file = "engine-key"
ca_file = "ca.pem"
cert_file = "gateway.pem"
key_file = "gateway.key"

[[models.replicas]]
name = "secured"
url = "https://localhost:PORT"
abort_path = "/abort_requests"

[plans.open]
[tenants.acme]
plans = ["open"]
"""
)
KEY = "sk-engines-own-secret"
UNTRUSTED = "TLS: its certificate is not trusted"
PROMPT = "a prompt that nobody else may read"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def front(folder: Path) -> Iterator[Front]:
    authority = Authority(folder)
    authority.issue("gateway")
    with (
        running_sim("--model", "meta/Llama", "--decode-ms-per-token", "2") as sim,
        secured(sim.address, authority, authority.issue("engine", "localhost"), key=KEY) as yielded,
    ):
        yield yielded


@pytest.fixture(scope="module")
def running(folder: Path, front: Front) -> Iterator[Running]:
    (folder / "engine-key").write_text(f"{KEY}\n")
    (folder / "tollway.toml").write_text(CONFIG.replace("PORT", str(front.port)))
    with gateway_of(folder / "tollway.toml", folder) as started:
        yield started


async def test_answers_and_health_come_through_and_the_client_reads_the_models_name(
    running: Running, front: Front
) -> None:
    body = chat(8) | {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}]}
    async with running.client(running.bearer()) as client:
        whole = await client.post(CHAT, json=body)
        stream = await client.post(CHAT, json=body | {"stream": True})
    assert (whole.status_code, whole.json()["model"], whole.json()["usage"]["completion_tokens"]) == (200, "demo", 8)
    frames = [json.loads(line[6:]) for line in stream.text.split("\n\n") if line and "[DONE]" not in line]
    assert {frame["model"] for frame in frames} == {"demo"}
    assert stream.text.endswith("data: [DONE]\n\n")
    asked = {head.split(b" ")[1] for head in front.heads}
    assert {b"/health", b"/v1/chat/completions"} <= asked
    assert all(f"\r\nauthorization: Bearer {KEY}\r\n".encode() in head for head in front.heads)
    assert running.metrics("tollway_replica_up", replica="secured") == 1


async def test_another_key_takes_effect_at_a_reload_and_no_key_is_ever_told(
    running: Running, front: Front, folder: Path
) -> None:
    front.key = "sk-the-next-secret"
    async with running.client(running.bearer()) as client, httpx.AsyncClient() as operator:
        refused = await client.post(CHAT, json=chat(2))
        (folder / "engine-key").write_text(front.key)
        reloaded = await operator.post(f"{running.admin_url}/admin/reload", json={})
        served = await client.post(CHAT, json=chat(2))
    assert (refused.status_code, reloaded.status_code, served.status_code) == (502, 200, 200)
    assert running.metrics("tollway_upstream_failures_total", replica="secured", reason="status_401") == 1
    told = (folder / "log").read_text() + running.admin("/metrics") + running.admin("/admin/replicas") + refused.text
    assert KEY not in told
    assert front.key not in told


def causes(running: Running) -> dict[str, str | None]:
    """Return what the operator reads of each replica that is given no work."""
    replicas = json.loads(running.admin("/admin/replicas"))["data"]
    return {each["name"]: each["cause"] for each in replicas if not each["healthy"]}


async def test_engines_that_cannot_be_asked_are_told_by_cause_and_given_no_work(
    front: Front, folder: Path, tmp_path: Path
) -> None:
    for name in ("ca.pem", "gateway.pem", "gateway.key"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "engine-key").write_text(front.key)
    (tmp_path / "other-key").write_text("sk-of-another-engine")
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other")
    model = CONFIG[CONFIG.index("[[models]]") : CONFIG.index("[plans.open]")].replace('"gpt-4o-mini"', "")
    wrong = {
        "other-name": ("localhost", "127.0.0.1"),
        "unknown-ca": ("ca.pem", "other/ca.pem"),
        "wrong-key": ("engine-key", "other-key"),
        "no-such-model": ("meta/Llama", "meta/Other"),
    }
    more = ""
    for name, replaced in wrong.items():
        more += model.replace('"demo"', f'"{name}"').replace('"secured"', f'"{name}"').replace(*replaced)
    text = CONFIG.replace("[plans.open]", f"{more}[plans.open]").replace("PORT", str(front.port))
    (tmp_path / "tollway.toml").write_text(text)
    with gateway_of(tmp_path / "tollway.toml", tmp_path) as running:
        told = causes(running)
        async with running.client(running.bearer()) as client:
            answers = {name: await client.post(CHAT, json=chat(2, model=name)) for name in ("demo", *wrong)}
    assert {name: answer.status_code for name, answer in answers.items()} == {"demo": 200} | dict.fromkeys(wrong, 503)
    # How OpenSSL calls an unknown authority depends on what it was shown.
    assert (told.pop("unknown-ca") or "").startswith(f"{UNTRUSTED}: ")
    assert told == {
        "other-name": f"{UNTRUSTED}: IP address mismatch, certificate is not valid for '127.0.0.1'",
        "wrong-key": "HTTP status 401: it does not take the key in api_key_file",
        "no-such-model": "it serves no model named 'meta/Other'; upstream_model says by which name it is asked",
    }
