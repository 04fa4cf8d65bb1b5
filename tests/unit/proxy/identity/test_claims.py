from typing import Any

import pytest

from proxy.identity.claims import find, place, pointer

# The example of RFC 6901, section 5, as far as it holds objects and lists.
DOCUMENT: dict[str, Any] = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "m~n": 8, "~1": 9}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/foo/1", "baz"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/m~0n", 8),
        ("/~01", 9),
        ("/foo/2", None),
        ("/foo/-1", None),
        ("/foo/²", None),
        ("/foo/99999999999", None),
        ("/nothing/below", None),
        ("/c%d/below", None),
    ],
)
def test_pointers_find_what_the_rfc_says(text: str, value: Any) -> None:
    assert find(DOCUMENT, pointer(text)) == value


@pytest.mark.parametrize("text", ["/tenant", "/realm/tenant", "/https:~1~1x~1tenant"])
def test_what_is_placed_is_found(text: str) -> None:
    claims: dict[str, Any] = {"realm": {"other": 1}}
    place(claims, pointer(text), "acme")
    assert find(claims, pointer(text)) == "acme"
    assert claims["realm"]["other"] == 1
