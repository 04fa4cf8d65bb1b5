"""What was held for a while is the system's again, whatever sizes it had."""

import subprocess
import sys
import textwrap

import pytest

HOLDS = """
    import sys
    from engine.runtime.memory import give_back_large_blocks

    def resident():
        return 1_024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

    if sys.argv[1] == "back":
        give_back_large_blocks()
    before = resident()
    for size in (30_000_000, 1_000_000):
        held = [b"x" * size for _ in range(100_000_000 // size)]
        kept = b"x" * 200_000
        del held
    print(resident() - before)
"""


def growth_bytes(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HOLDS), how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_blocks_are_given_back() -> None:
    assert growth_bytes("back") < 10_000_000
