"""`pytest tests/simulation --seed N` runs the world of one seed."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--seed`."""
    parser.addoption("--seed", type=int, default=None, help="run the world of this seed alone")
