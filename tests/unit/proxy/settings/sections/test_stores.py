from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.settings.loading import parse

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize("url", ["localhost:6379", "redis://:secret@redis", "unix://", "redis+cluster://r/1"])
def test_redis_has_an_address_without_a_password(faults: Faults, url: str) -> None:
    assert list(faults(more=f'redis.url = "{url}"')) == ["redis.url"]


def test_a_password_needs_an_address(faults: Faults) -> None:
    assert list(faults(more='redis.password_file = "pw"')) == ["redis.password_file"]


def test_an_address_stays_as_it_is_written(minimal: str) -> None:
    url = "rediss+sentinel://bob@one,two/main/2"
    assert parse(f'{minimal}\nredis.url = "{url}"', {}).redis.url == url


@pytest.mark.parametrize(
    ("lines", "at_fault"),
    [
        ('redis.url = "redis://r"\nredis.ca_file = "ca"', ["redis.ca_file"]),
        ('redis.ca_file = "ca"', ["redis.ca_file"]),
        ('redis.url = "nonsense"\nredis.ca_file = "ca"', ["redis.url"]),
        ('redis.url = "rediss://r"\nredis.cert_file = "c"', ["redis.key_file"]),
        ('redis.url = "rediss://r"\nredis.key_file = "k"', ["redis.key_file"]),
        ('redis.url = "rediss://r"\nredis.sentinel_username = "u"', ["redis.sentinel_username"]),
        ('redis.url = "redis+cluster://r"\nredis.sentinel_password_file = "p"', ["redis.sentinel_password_file"]),
    ],
)
def test_what_an_address_has_no_use_for_is_refused(faults: Faults, lines: str, at_fault: list[str]) -> None:
    assert list(faults(more=lines)) == at_fault


def test_certificates_stand_beside_the_config(minimal: str, tmp_path: Path) -> None:
    lines = 'redis = { url = "rediss+cluster://r", ca_file = "ca", cert_file = "cert", key_file = "/run/key" }'
    redis = parse(f"{minimal}\n{lines}", {}, folder=tmp_path).redis
    assert (redis.ca_file, redis.cert_file, redis.key_file) == (tmp_path / "ca", tmp_path / "cert", Path("/run/key"))
