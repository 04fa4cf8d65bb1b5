"""
How the tests are dealt out to the processes of pytest-xdist (`-p tests.dealing`): what takes seconds one by one.

Rules: a test of the folders below is dealt alone, so that no process is left with many long ones; elsewhere a file goes
to one process, and its tests may remember for each other. The largest files go first, then the long tests, in order.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ONE_BY_ONE = ("tests/chaos/", "tests/e2e/", "tests/integration/")


class Dealing(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Deals out."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(ONE_BY_ONE) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Dealing:
    """Let pytest-xdist deal so."""
    return Dealing(config, log)
