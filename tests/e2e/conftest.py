"""One gateway for all end-to-end tests; each test has users of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway import Running, gateway


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one gateway with simulated replicas for the session; it waits for Redis as long as a busy machine takes."""
    with gateway(tmp_path_factory.mktemp("gateway"), TOLLWAY__REDIS__TIMEOUT_S="20") as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a gateway of one test a folder of its own."""
    return tmp_path
