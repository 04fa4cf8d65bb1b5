import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.quota import Limit, Per, Scope, Unit
from proxy.settings import ConfigError, Settings, load
from proxy.settings.loading import parse
from proxy.settings.schema import keys_at


def test_the_demo_config_is_what_make_run_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8080)
    assert (settings.admin.host, settings.admin.port) == ("127.0.0.1", 9090)
    assert settings.redis.url is None
    [model] = settings.models
    assert (model.name, model.aliases, model.context_tokens) == ("demo", ("gpt-4o-mini",), 8192)
    assert set(model.endpoints) == {"chat", "completions", "embeddings"}
    assert [(replica.name, replica.sequences) for replica in model.replicas] == [("demo-0", 64), ("demo-1", 64)]
    assert model.launch is not None
    assert model.launch.engine == "sim"
    assert {name: tenant.plans for name, tenant in settings.tenants.items()} == {"acme": ("pro",), "globex": ("free",)}
    assert _amounts(settings, "pro") == {"requests": 6_000, "tokens": 2_000_000, "concurrent": 256}
    assert _amounts(settings, "free") == {"requests": 20, "tokens": 10_000, "concurrent": 2}
    assert [price.model for price in settings.prices] == ["demo"]


def _amounts(settings: Settings, plan: str) -> dict[str, int]:
    limits = [line.limit for line in settings.plans[plan].limits]
    for limit in limits:
        per = None if limit.unit is Unit.CONCURRENT else Per.MINUTE
        assert limit == Limit(Scope.USER, limit.unit, limit.amount, per)
    return {str(limit.unit): limit.amount for limit in limits}


def test_the_demo_config_keeps_its_files_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    assert settings.redis.data_dir == tmp_path / "data"
    assert settings.key_file(settings.auth.issuers[0]) == tmp_path / "data" / "development.key"
    assert settings.cache_secret_file == tmp_path / "data" / "cache.secret"


def test_a_file_keeps_its_files_beside_itself(tmp_path: Path, minimal: str) -> None:
    (tmp_path / "gateway.toml").write_text(f'{minimal}\nrouting.cache_secret_file = "/run/secret"')
    settings = load(tmp_path / "gateway.toml", {})
    assert settings.key_file(settings.auth.issuers[0]) == tmp_path / "i.pem"
    assert settings.redis.data_dir == tmp_path / "data"
    assert settings.cache_secret_file == Path("/run/secret")


def test_without_a_path_the_current_directory_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minimal: str
) -> None:
    (tmp_path / "tollway.toml").write_text(minimal)
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).models[0].name == "m"


def test_every_fault_is_told_at_once() -> None:
    text = """
    listen.port = "8080"
    listen.prot = 1
    limits.idle_s_max = nan
    auth.issuers = [{ issuer = "i", algorithms = ["HS256", "EdDSA"], key_file = "k" }]
    plans.pro.limits = [
        { scope = "user", unit = "tokens", amount = 1, per = "day" },
        { scope = "user", unit = "tokens", amount = 2, per = "day" },
        { scope = "user", unit = "tokens", amount = 0, per = "hour" },
    ]
    plans.pro.models = ["gone"]
    tenants.acme.plans = ["gone"]
    [[models]]
    name = "a"
    aliases = ["a"]
    replicas = [{ name = "r" }]
    """
    with pytest.raises(ConfigError) as caught:
        parse(text, {"TOLLWAY__ADMIN__PORT": "70000"}, source="x.toml")
    assert str(caught.value).splitlines() == [
        "x.toml: admin.port: must be less than or equal to 65535 (set by TOLLWAY__ADMIN__PORT)",
        "x.toml: auth.issuers[0].algorithms: HMAC (HS*) must not stand beside algorithms with a public key",
        "x.toml: limits.idle_s_max: must be a finite number",
        "x.toml: listen.port: must be a valid integer",
        "x.toml: listen.prot: unknown key; did you mean port?",
        "x.toml: models[0].aliases[0]: 'a' is taken by models[0].name",
        "x.toml: models[0].context_tokens: is missing",
        "x.toml: models[0].replicas[0].url: is missing, and models[0] has no launch table to start it by",
        "x.toml: plans.pro.limits[1]: user-tokens-day is taken by plans.pro.limits[0]",
        "x.toml: plans.pro.limits[2].amount: must be greater than or equal to 1",
        "x.toml: plans.pro.models[0]: no model is named 'gone'",
        "x.toml: tenants.acme.plans[0]: no plan is named 'gone'",
    ]


def test_broken_toml_names_its_line(minimal: str) -> None:
    with pytest.raises(ConfigError, match=r"is not TOML: .*line 6"):
        parse(f"{minimal}listen.port = = 1", {})


@pytest.mark.parametrize(
    "text", [".".join("a" * 4_000) + " = 1", ".".join("a" * 300) + " = 1", "a = " + "[" * 3000, f"a = {'9' * 5000}"]
)
def test_a_monstrous_document_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text, {"TOLLWAY__LISTEN__PORT": "9" * 5000})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "is not UTF-8 text"), (b"#" * (8 * 2**20 + 1), "is larger than"), (None, "cannot be read")],
)
def test_a_file_that_is_no_config_says_so(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(path, {})


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_no_message_repeats_a_password(minimal: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            minimal.replace("http://r:8000", "http://bob:hunter2@r"),
            {"TOLLWAY__REDIS__URL": "redis://:hunter2@redis"},
        )
    assert len(caught.value.faults) == 2
    assert "hunter2" not in str(caught.value)


def _all_keys() -> list[str]:
    paths: list[list[str | int]] = [[], ["auth"], ["models", 0], ["plans", "p"], ["auth", "issuers", 0], ["limits"]]
    return sorted({key for path in paths for key in keys_at(path)} | {"scope", "unit", "per", "amount", "NAME"})


_VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable[:90], max_size=8)
    | st.sampled_from(["*", "user"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_all_keys()), inner, max_size=4),
    max_leaves=30,
)


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case _:
            return str(value)


@given(
    st.dictionaries(st.sampled_from(_all_keys()), _VALUES),
    st.dictionaries(
        st.lists(st.sampled_from([*_all_keys(), "0", "1", ""]), min_size=1, max_size=4).map(
            lambda parts: "TOLLWAY__" + "__".join(parts).upper()
        ),
        st.text(max_size=10),
        max_size=4,
    ),
)
def test_any_document_is_sound_or_a_config_error(document: dict[str, Any], env: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in document.items())
    with pytest.raises(ConfigError) as caught:
        parse(text, env)
    assert caught.value.faults
    assert "is not TOML" not in str(caught.value)
