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
    ],
)
def test_an_issuer_that_would_be_unsafe_is_refused(faults: Faults, issuer: str, path: str) -> None:
    found = faults(('{ issuer = "i", key_file = "i.pem" }', f"{{ issuer = 'i', {issuer} }}"))
    assert list(found) == [f"auth.issuers[0].{path}"]
