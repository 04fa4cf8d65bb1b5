from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.settings import values


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (values.Name, "acme"),
        (values.Name, "größe ☂"),
        (values.Pointer, "/a~1b/0"),
        (values.BaseUrl, "http://10.0.0.7:8000"),
        (values.BaseUrl, "https://[::1]:8000"),
        (values.RedisUrl, "rediss://user@redis:6379/0"),
        (values.RedisUrl, "unix:///run/redis.sock"),
    ],
)
def test_what_is_taken_as_it_is(kind: Any, good: str) -> None:
    assert TypeAdapter(kind).validate_python(good) == good


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (values.Name, ""),
        (values.Name, " acme"),
        (values.Name, "ac\nme"),
        (values.Name, "a" * 129),
        (values.Pointer, "tenant"),
        (values.BaseUrl, "10.0.0.7:8000"),
        (values.BaseUrl, "http://user:secret@replica:8000"),
        (values.BaseUrl, "http://replica:8000/?a=b"),
        (values.RedisUrl, "http://redis:6379"),
        (values.RedisUrl, "redis://:secret@redis:6379"),
        (values.RedisUrl, "unix://"),
        (values.Port, 65_536),
        (values.Seconds, 0),
        (values.Micros, -1),
        (values.Algorithm, "none"),
    ],
)
def test_what_is_refused(kind: Any, bad: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(bad)


def test_a_path_begins_at_the_files_folder() -> None:
    adapter: TypeAdapter[Path] = TypeAdapter(values.Location)
    assert adapter.validate_python("keys/a.pem", context=Path("/etc/tollway")) == Path("/etc/tollway/keys/a.pem")
    assert adapter.validate_python("/a.pem", context=Path("/etc/tollway")) == Path("/a.pem")
    assert adapter.validate_python("a.pem") == Path("a.pem")


def test_a_base_url_ends_without_a_slash() -> None:
    assert TypeAdapter(values.BaseUrl).validate_python("http://replica:8000/") == "http://replica:8000"
