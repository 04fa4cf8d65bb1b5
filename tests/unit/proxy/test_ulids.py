"""Ids: when they were made, and that their other part is the system's randomness, each bit used once."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from ulid_transform import ulid_to_bytes

from proxy import ulids
from proxy.ulids import BLOCK, RANDOM_BYTES, new_ulid


@pytest.fixture(autouse=True)
def none_spare() -> Iterator[None]:
    kept = ulids._spare[:]
    ulids._spare.clear()
    yield
    ulids._spare[:] = kept


def test_an_id_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = new_ulid()
    assert len(made) == 26
    assert before <= int.from_bytes(ulid_to_bytes(made)[:6], "big") <= time.time_ns() // 1_000_000


def test_all_else_of_it_is_the_systems_randomness_and_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []

    def urandom(size: int) -> bytes:
        given.append(bytes(index % 251 for index in range(len(given), len(given) + size)))
        return given[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    random = [ulid_to_bytes(new_ulid())[6:] for _ in range(3 * BLOCK)]
    parts = [block[at : at + RANDOM_BYTES] for block in given for at in range(0, len(block), RANDOM_BYTES)]
    assert sorted(random) == sorted(parts)
    assert len(given) == 3


def test_threads_share_no_id() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def work(mine: list[str]) -> None:
        mine.extend(new_ulid() for _ in range(20 * BLOCK))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for mine in made for each in mine}) == 4 * 20 * BLOCK


FORKS = """
import os
from proxy.ulids import new_ulid
new_ulid()
child = os.fork()
made = [new_ulid()[10:] for _ in range(50)]
if child:
    os.waitpid(child, 0)
print(*made, sep="\\n", flush=True)
os._exit(0)
"""


def test_a_forked_process_has_ids_of_its_own() -> None:
    told = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True).stdout.split()
    assert (len(told), len(set(told))) == (100, 100)
