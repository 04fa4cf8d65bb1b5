import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from proxy.identity.secret_files import UnusableSecret, cache_secret, read_or_make, read_secret, redis_access
from proxy.redis.address import Access
from proxy.settings.loading import parse


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "development.key"
    secret = read_or_make(path)
    assert len(bytes.fromhex(secret.decode())) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make(path) == secret
    assert read_or_make(tmp_path / "other.key") != secret


def test_all_who_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    makers = 16
    for attempt in range(10):
        path, start = tmp_path / f"{attempt}.key", Barrier(makers)

        def make(path: Path = path, start: Barrier = start) -> bytes:
            start.wait()
            return read_or_make(path)

        with ThreadPoolExecutor(makers) as pool:
            secrets = {future.result() for future in [pool.submit(make) for _ in range(makers)]}
        assert len(secrets) == 1
    assert len(list(tmp_path.iterdir())) == 10, "what was written aside is gone"


def test_a_secret_that_stands_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"too short\n")
    with pytest.raises(UnusableSecret, match="holds 9 bytes; a secret needs 32"):
        read_or_make(path)
    assert path.read_bytes() == b"too short\n"


def test_blank_space_around_a_secret_is_not_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"  " + b"s" * 32 + b"\r\n")
    assert read_secret(path) == b"s" * 32


def test_a_secret_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnusableSecret, match="cannot be read: No such file"):
        read_secret(tmp_path / "missing")
    with pytest.raises(UnusableSecret, match="cannot be read: Is a directory"):
        read_secret(tmp_path)
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    with pytest.raises(UnusableSecret, match="is larger than"):
        read_secret(tmp_path / "huge")
    (tmp_path / "file").touch()
    with pytest.raises(UnusableSecret, match="cannot be made"):
        read_or_make(tmp_path / "file" / "key")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_secret_of_somebody_else_says_why(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 32)
    path.chmod(0)
    with pytest.raises(UnusableSecret, match="Permission denied"):
        read_secret(path)


def test_the_cache_secret_is_the_operators_or_one_of_our_own(tmp_path: Path, minimal_config: str) -> None:
    ours = cache_secret(parse(minimal_config, {}, folder=tmp_path))
    assert (tmp_path / "data" / "cache.secret").read_bytes() == ours
    named = parse(f'{minimal_config}\nrouting.cache_secret_file = "named"', {}, folder=tmp_path)
    with pytest.raises(UnusableSecret, match="cannot be read"):
        cache_secret(named)
    (tmp_path / "named").write_bytes(b"n" * 32)
    assert cache_secret(named) == b"n" * 32


def test_passwords_reach_redis_as_they_stand(tmp_path: Path, minimal_config: str) -> None:
    lines = """
    redis.url = "rediss+sentinel://bob@one,two/main"
    redis.password_file = "pw"
    redis.sentinel_username = "eve"
    redis.sentinel_password_file = "other"
    redis.ca_file = "ca.pem"
    """
    settings = parse(f"{lines}\n{minimal_config}", {}, folder=tmp_path)
    with pytest.raises(UnusableSecret, match="cannot be read"):
        redis_access(settings)
    (tmp_path / "pw").write_bytes("p@ss/w:ö rd?#%41\n".encode())
    (tmp_path / "other").write_bytes(b"two")
    assert redis_access(settings) == Access("p@ss/w:ö rd?#%41", "eve", "two", tmp_path / "ca.pem")
    (tmp_path / "pw").write_bytes(b"\xff")
    with pytest.raises(UnusableSecret, match="UTF-8"):
        redis_access(settings)


def test_without_files_nothing_is_shown(minimal_config: str) -> None:
    assert redis_access(parse(minimal_config, {})) == Access()
