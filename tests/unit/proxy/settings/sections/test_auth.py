from collections.abc import Callable

import pytest

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize(
    ("issuer", "path"),
    [
        ("algorithms = ['none'], key_file = 'k'", "algorithms[0]"),
        ("algorithms = ['HS256', 'RS256'], key_file = 'k'", "algorithms"),
        ("algorithms = [], key_file = 'k'", "algorithms"),
        ("algorithms = ['RS256']", "key_file"),
        ("key_file = 'k', development = true", "development"),
        ("key_file = 'k', claims.tenant = 'tenant'", "claims.tenant"),
        ("jwks_url = 'https://i/keys', key_file = 'k'", "key_file"),
        ("jwks_url = 'https://i/keys', discovery = true, issuer = 'https://i'", "discovery"),
        ("discovery = true, key_file = 'k', issuer = 'https://i'", "key_file"),
        ("discovery = true", "discovery"),
        ("discovery = true, issuer = 'http://i'", "discovery"),
        ("jwks_url = 'http://i/keys'", "jwks_url"),
        ("jwks_url = 'file:///keys'", "jwks_url"),
        ("jwks_url = 'https://user:password@i/keys'", "jwks_url"),
        ("jwks_url = 'https://i/keys', algorithms = ['HS256']", "jwks_url"),
        ("discovery = true, algorithms = ['HS256'], issuer = 'https://i'", "discovery"),
        ("jwks_url = 'https://i/keys', algorithms = ['HS256'], development = true", "jwks_url"),
        ("jwks_url = 'https://i/keys', refresh_s = 5", "refresh_s"),
        ("jwks_url = 'https://i/keys', stale_s_max = 5", "stale_s_max"),
        ("jwks_url = 'https://i/keys', scopes = ['usage:read admin']", "scopes[0]"),
        ("jwks_url = 'https://i/keys', scopes = ['']", "scopes[0]"),
    ],
)
def test_an_issuer_that_would_be_unsafe_is_refused(faults: Faults, issuer: str, path: str) -> None:
    found = faults(
        (
            '{ issuer = "i", key_file = "i.pem" }',
            f"{{ {issuer} }}" if "issuer =" in issuer else f"{{ issuer = 'i', {issuer} }}",
        )
    )
    assert list(found) == [f"auth.issuers[0].{path}"]


@pytest.mark.parametrize(
    "issuer",
    [
        "jwks_url = 'https://i/keys'",
        "jwks_url = 'http://127.0.0.1:8000/keys?a=b'",
        "discovery = true, issuer = 'https://login.example/realm/'",
        "discovery = true, issuer = 'http://localhost:8000'",
    ],
)
def test_an_issuer_that_publishes_its_keys_needs_no_file(faults: Faults, issuer: str) -> None:
    named = issuer if "issuer =" in issuer else f"issuer = 'i', {issuer}"
    assert faults(('{ issuer = "i", key_file = "i.pem" }', f"{{ {named} }}")) == {}
