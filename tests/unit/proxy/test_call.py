"""What a request may ask, what is reserved for it, and whose prefix cache it shares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.protocols.base import ApiProtocol
from engine.protocols.chat import CHAT
from engine.protocols.completions import COMPLETIONS
from engine.protocols.embeddings import EMBEDDINGS
from policies.quota import Ask
from proxy.call import Call, understand
from proxy.catalog import Catalog
from proxy.errors import ApiError, Code, InvalidRequest
from proxy.identity.principal import Principal
from proxy.settings.loading import parse
from proxy.settings.sections import Bounds
from tests.unit.proxy.gateway import CONFIG

ADA = Principal("acme", "ada", "pro")
BOB = Principal("acme", "bob", "pro")
EVE = Principal("globex", "ada", "pro")
CHAT_BODY: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.of(parse(CONFIG, {}, folder=tmp_path))


def call(catalog: Catalog, body: dict[str, Any], protocol: ApiProtocol = CHAT, principal: Principal = ADA) -> Call:
    return understand(protocol, json.dumps(body).encode(), principal, catalog=catalog, bounds=Bounds())


def test_a_call_knows_its_plan_its_model_and_its_price(catalog: Catalog) -> None:
    understood = call(catalog, CHAT_BODY | {"model": "gpt-4o-mini"})
    assert (understood.principal, understood.plan.name, understood.model.name) == (ADA, "pro", "demo")
    assert understood.price is not None
    assert understood.price.version == "7"


@pytest.mark.parametrize(
    ("protocol", "body", "refused"),
    [
        (CHAT, CHAT_BODY | {"model": "nobody"}, (Code.MODEL_NOT_FOUND, "model")),
        (CHAT, CHAT_BODY | {"model": "secret"}, (Code.MODEL_NOT_ALLOWED, "model")),
        (CHAT, CHAT_BODY | {"messages": []}, (Code.INVALID_REQUEST, "messages")),
        (CHAT, CHAT_BODY | {"max_tokens": 4_097}, (Code.CONTEXT_LENGTH_EXCEEDED, "max_tokens")),
        (CHAT, CHAT_BODY | {"max_completion_tokens": 4_097}, (Code.CONTEXT_LENGTH_EXCEEDED, "max_completion_tokens")),
        (
            CHAT,
            CHAT_BODY | {"n": 16, "max_tokens": 3_300, "logprobs": True, "top_logprobs": 20},
            (Code.INVALID_REQUEST, "logprobs"),
        ),
        (
            EMBEDDINGS,
            {"model": "demo", "input": "hi", "encoding_format": "bytes"},
            (Code.INVALID_REQUEST, "encoding_format"),
        ),
        (COMPLETIONS, {"model": "demo", "prompt": [1] * 4_097}, (Code.CONTEXT_LENGTH_EXCEEDED, "prompt")),
        (COMPLETIONS, {"model": "demo", "prompt": [[1], [1] * 4_097]}, (Code.CONTEXT_LENGTH_EXCEEDED, "prompt")),
        (EMBEDDINGS, {"model": "demo", "input": [1] * 4_097}, (Code.CONTEXT_LENGTH_EXCEEDED, "input")),
    ],
)
def test_what_cannot_be_answered(
    catalog: Catalog, protocol: ApiProtocol, body: dict[str, Any], refused: tuple[Code, str]
) -> None:
    with pytest.raises(ApiError) as caught:
        call(catalog, body, protocol)
    assert (caught.value.code, caught.value.param) == refused


def test_what_just_fits_the_context_is_asked_of_the_engine(catalog: Catalog) -> None:
    call(catalog, CHAT_BODY | {"max_tokens": 4_096})
    call(catalog, {"model": "demo", "prompt": [1] * 4_096}, COMPLETIONS)


def test_a_model_serves_its_endpoints_only(catalog: Catalog) -> None:
    config = CONFIG.replace('models = ["demo"]', 'models = ["*"]')
    everything = Catalog.of(parse(config, {}))
    with pytest.raises(ApiError) as caught:
        call(everything, {"model": "secret", "input": "hi"}, EMBEDDINGS)
    assert (caught.value.code, caught.value.param) == (Code.INVALID_REQUEST, "model")


def test_a_long_model_name_is_not_repeated_whole(catalog: Catalog) -> None:
    with pytest.raises(ApiError) as caught:
        call(catalog, CHAT_BODY | {"model": "x" * 10_000})
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("protocol", "body", "ask"),
    [
        # The model: a template of 10 tokens, 512 by default, at least 16.
        (CHAT, {"messages": [{"role": "user", "content": ""}]}, Ask(40, 1, 512, 16, 9)),
        (COMPLETIONS, {"prompt": "x" * 20}, Ask(30, 1, 16, 16, 9)),
        (COMPLETIONS, {"prompt": ["x" * 20, "y"], "n": 3, "max_tokens": 100}, Ask(41, 6, 100, 16, 9)),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 5}, Ask(11, 1, 5, 5, 9)),
        (COMPLETIONS, {"prompt": [[1, 2, 3], [4]], "max_tokens": 5}, Ask(24, 2, 5, 5, 9)),
        (COMPLETIONS, {"prompt": "x" * 9_000, "max_tokens": 5}, Ask(4_096, 1, 5, 5, 9)),
        (EMBEDDINGS, {"input": ["x" * 20, "y"]}, Ask(41, 2, 0, 0, 9)),
    ],
    ids=[
        "a chat's default",
        "a completion's",
        "prompts times n",
        "less than the least",
        "ids",
        "the context bounds it",
        "embeddings",
    ],
)
def test_what_is_reserved(catalog: Catalog, protocol: ApiProtocol, body: dict[str, Any], ask: Ask) -> None:
    assert call(catalog, {"model": "demo"} | body, protocol).ask(hold_us=9) == ask


@pytest.mark.parametrize(
    ("scope", "apart"),
    [
        ("user", {"ada", "bob", "eve"}),
        ("tenant", {"ada", "eve"}),
        ("friends", {"ada"}),
    ],
)
def test_a_prefix_cache_is_shared_within_its_scope_alone(catalog: Catalog, scope: str, apart: set[str]) -> None:
    understood = call(catalog, CHAT_BODY)
    scoped = understood._replace(model=replace(understood.model, cache_scope=scope))
    salts = {
        name: scoped._replace(principal=principal).cache_salt(b"secret")
        for name, principal in {"ada": ADA, "bob": BOB, "eve": EVE}.items()
    }
    assert len(set(salts.values())) == len(apart)
    assert (salts["ada"] == salts["bob"]) == ("bob" not in apart)
    assert (salts["ada"] == salts["eve"]) == ("eve" not in apart)


def test_names_cannot_be_chosen_to_meet(catalog: Catalog) -> None:
    understood = call(catalog, CHAT_BODY)
    salts = {
        understood._replace(
            principal=Principal(tenant, user, "pro"), model=replace(understood.model, cache_scope=scope)
        ).cache_salt(b"secret")
        for scope in ("user", "tenant", "acme")
        for tenant, user in [("acme", "ada"), ("acmea", "da"), ("tenant", "acme"), ("group", "acme")]
    }
    # Four users, four tenants, one group.
    assert len(salts) == 9


def test_a_salt_tells_nothing_without_the_secret(catalog: Catalog) -> None:
    understood = call(catalog, CHAT_BODY)
    salt = understood.cache_salt(b"secret")
    assert salt == understood.cache_salt(b"secret")
    assert salt != understood.cache_salt(b"another")
    assert "acme" not in salt


MEDIA_CONFIG = CONFIG.replace(
    "template_tokens = 10",
    'template_tokens = 10\nmedia = { tokens_max = 700, items_max = 2, domains = ["media.example.com"] }',
    1,
)


def shown(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "demo", "messages": [{"role": "user", "content": [{"type": "text", "text": "é?"}, *parts]}]}


def test_each_item_is_reserved_at_its_most_and_its_bytes_are_not_counted(tmp_path: Path) -> None:
    shows = Catalog.of(parse(MEDIA_CONFIG, {}, folder=tmp_path))
    inline = "data:image/png;base64," + "A" * 3_000
    bounds = [call(shows, shown(*[inline] * items)).ask(0).prompt_tokens for items in range(3)]
    assert [each - bounds[0] for each in bounds] == [0, 700, 1_400]


def test_a_url_goes_on_as_it_was_checked(tmp_path: Path) -> None:
    shows = Catalog.of(parse(MEDIA_CONFIG, {}, folder=tmp_path))
    understood = call(shows, shown("HTTPS://MEDIA.example.com.:443/a.png"))
    assert understood.request.prompt.media[0]["url"] == "https://media.example.com/a.png"
    body = understood.request.protocol.render(
        understood.request, model="m", max_completion=1, cache_salt="s", extra_fields=()
    )
    assert b'"https://media.example.com/a.png"' in body


@pytest.mark.parametrize("urls", [["https://evil.example/a"], ["data:image/png;base64,AA"] * 3])
def test_media_beyond_what_the_model_may_be_shown_are_refused(tmp_path: Path, urls: list[str]) -> None:
    shows = Catalog.of(parse(MEDIA_CONFIG, {}, folder=tmp_path))
    with pytest.raises(InvalidRequest) as caught:
        call(shows, shown(*urls))
    assert caught.value.param == "messages"


def test_a_model_without_media_takes_text_only(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="only text"):
        call(catalog, shown("data:image/png;base64,AA"))
