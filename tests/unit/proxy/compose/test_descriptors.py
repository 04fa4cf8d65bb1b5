"""How many descriptors the process takes, in processes of their own: a hard limit is lowered once and for all."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, resource, sys
from proxy.compose.descriptors import room_for_clients
from proxy.observe import logs
soft, hard, wanted, upstream = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logs.configure()
print(json.dumps([room_for_clients(wanted, upstream), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("limits", "wanted", "upstream", "found", "warned"),
    [
        ((300, 4_000), 1_000, 100, [1_000, 1_356, 4_000], False),
        ((2_000, 4_000), 1_000, 100, [1_000, 2_000, 4_000], False),
        ((300, 1_000), 1_000, 100, [644, 1_000, 1_000], True),
        ((300, 1_000), 600, 500, [500, 1_000, 1_000], True),
        ((300, 300), 10_000, 0, [150, 300, 300], True),
    ],
    ids=["raised as needed", "enough", "too few", "as many as replicas leave", "hardly any"],
)
def test_the_soft_limit_is_raised_and_strangers_are_let_in_as_far_as_it_reaches(
    limits: tuple[int, int], wanted: int, upstream: int, found: list[int], *, warned: bool
) -> None:
    command = [sys.executable, "-c", CODE, *map(str, (*limits, wanted, upstream))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == found
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["descriptors_short"] * warned
