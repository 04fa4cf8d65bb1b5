"""Where media may come from: inline, or from a listed host, and from nowhere that only looks like one."""

import pytest

from engine.faults import MalformedRequest
from engine.protocols.media import checked, written

DOMAINS = ("media.example.com", "xn--bcher-kva.example", "192.0.2.7")


@pytest.mark.parametrize(
    ("url", "goes_on_as"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="),
        ("https://media.example.com/a.png", "https://media.example.com/a.png"),
        ("HTTPS://Media.Example.COM./a.png?x=1#y", "https://media.example.com/a.png?x=1#y"),
        ("https://media.example.com:443/a", "https://media.example.com/a"),
        ("http://media.example.com:80/a", "http://media.example.com/a"),
        ("https://b\u00fccher.example/a", "https://xn--bcher-kva.example/a"),
        ("https://media\u3002example.com/a", "https://media.example.com/a"),
        ("https://media.example.com", "https://media.example.com/"),
        ("http://192.0.2.7/a", "http://192.0.2.7/a"),
    ],
)
def test_what_may_be_fetched(url: str, goes_on_as: str) -> None:
    assert checked(url, DOMAINS) == goes_on_as


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "/a.png",
        "//media.example.com/a",
        "file:///etc/passwd",
        "ftp://media.example.com/a",
        "gopher://media.example.com/a",
        "https://example.com/a",
        "https://example.media.example.com/a",
        "https://media.example.com.evil.example/a",
        "https://media.example.com@evil.example/a",
        "https://user:pass@media.example.com/a",
        "https://evil.example#@media.example.com/a",
        "https://evil.example?@media.example.com/a",
        "https://evil.example\\@media.example.com/a",
        "https:\\\\media.example.com\\a",
        "https:/media.example.com/a",
        "https:media.example.com/a",
        "https:///media.example.com/a",
        "https://media.example.com:8080/a",
        "https://media.example.com:80/a",
        "https://media.example.com:/a",
        "https://media.example.com:443@evil.example/a",
        "https://media.example.com..",
        "https://.media.example.com/",
        "https://media%2eexample.com/a",
        "https://media.example.com%00.evil.example/a",
        "https://media.example.com\t.evil.example/a",
        "https://media.example.com/a b",
        "https://media.example.com/a\r\nHost: evil",
        " https://media.example.com/a",
        "https://127.0.0.1/a",
        "https://2130706433/a",
        "https://0x7f.1/a",
        "https://0300.0.2.7/a",
        "https://[::1]/a",
        "https://[::ffff:192.0.2.7]/a",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/a",
        "https://" + "a" * 300 + "/",
        "data:text/html;base64,PGI+",
        "data:image/png,raw",
        "data:image/svg+xml;utf8,<svg/>",
        "data:image/png;base64,a b",
        "data:;base64,aaaa",
        "javascript:alert(1)",
    ],
)
def test_what_may_not(url: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        checked(url, DOMAINS)
    assert "evil" not in caught.value.message


def test_nothing_is_fetched_without_a_list() -> None:
    with pytest.raises(MalformedRequest):
        checked("https://media.example.com/a", ())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
    ],
)
def test_a_plain_part(part: dict[str, object]) -> None:
    assert written(part) == part


@pytest.mark.parametrize(
    ("part", "goes_on_as"),
    [
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": "low", "format": "png"}, "min_pixels": 5},
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": None}, "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "u"}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "u"}, "image_url": "https://evil.example/a", "uuid": None},
            {"type": "video_url", "video_url": {"url": "u"}},
        ),
        (
            {"type": "input_image", "image_url": "u", "detail": "auto"},
            {"type": "image_url", "image_url": {"url": "u", "detail": "auto"}},
        ),
    ],
)
def test_what_a_part_holds_besides_does_not_go_on(part: dict[str, object], goes_on_as: dict[str, object]) -> None:
    assert written(part) == goes_on_as


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": "u"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"detail": "low"}},
        {"type": "image_url", "image_url": {"url": 1}},
        {"type": "image_url", "image_url": {"url": "u"}, "uuid": "another tenant's"},
        {"type": "input_audio", "input_audio": {"url": "https://evil.example"}},
        {"type": "input_audio", "input_audio": {"data": ["d"]}},
        {"type": "input_image"},
        {"type": "input_image", "image_url": {"url": "u"}},
        {"type": "input_image", "image_url": "u", "uuid": "another tenant's"},
    ],
)
def test_a_part_that_is_more_than_it_says(part: dict[str, object]) -> None:
    with pytest.raises(MalformedRequest):
        written(part)
