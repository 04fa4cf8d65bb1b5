from collections.abc import Callable

import pytest

from proxy.settings.loading import parse

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://redis", "redis://:secret@redis", "unix://", "redis://", "redis://r?password=x"]
)
def test_redis_has_an_address_without_a_password(faults: Faults, url: str) -> None:
    assert list(faults(more=f'redis.url = "{url}"')) == ["redis.url"]


def test_a_password_needs_an_address(faults: Faults) -> None:
    assert list(faults(more='redis.password_file = "pw"')) == ["redis.password_file"]


@pytest.mark.parametrize("url", ["redis://redis", "rediss://user@redis:6380/2", "unix:///run/redis.sock"])
def test_redis_addresses(minimal: str, url: str) -> None:
    assert parse(f'{minimal}\nredis.url = "{url}"', {}).redis.url == url
