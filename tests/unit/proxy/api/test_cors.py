import pytest

from proxy.api.cors import EXPOSED, Pages

PAGE, OTHER = "https://console.example.com", "http://localhost:3000"


def told(pages: Pages, origin: str | None) -> dict[str, str]:
    """Return the headers for a page of this origin, read back."""
    lines = pages.headers(None if origin is None else origin.encode()).decode()
    assert lines == "" or lines.endswith("\r\n")
    return dict(line.split(": ", 1) for line in lines.split("\r\n")[:-1])


@pytest.mark.parametrize("origin", [PAGE, OTHER])
def test_a_listed_page_may_read_and_caches_keep_it_apart(origin: str) -> None:
    assert told(Pages([PAGE, OTHER]), origin) == {
        "access-control-allow-origin": origin,
        "vary": "Origin",
        "access-control-expose-headers": ", ".join(EXPOSED),
    }


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"{PAGE}.evil.example", PAGE.upper()])
def test_any_other_is_told_nothing(origin: str | None) -> None:
    assert told(Pages([PAGE]), origin) == {}
    assert told(Pages([]), origin) == {}


def test_where_any_page_may_all_are_told_the_same() -> None:
    anyone = Pages(["*"])
    assert told(anyone, PAGE) == told(anyone, "null")
    assert told(anyone, PAGE)["access-control-allow-origin"] == "*"
    assert told(anyone, None) == {}
