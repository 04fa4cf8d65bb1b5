"""Real child processes: ready, failed, ended, orphaned."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.runtime.process import Child, ChildFailed
from tests.processes import alive

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
DEAF = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
)
PARENT = """
import asyncio, sys
from pathlib import Path
from engine.runtime.process import Child

async def main():
    async with Child("sleeper", ["sleep", "60"], log=Path(sys.argv[1])) as child:
        print(child.pid, flush=True)
        await child.wait()

asyncio.run(main())
"""


def child(tmp_path: Path, command: tuple[str, ...], stop_s_max: float = 5.0) -> Child:
    return Child("thing", command, log=tmp_path / "thing.log", stop_s_max=stop_s_max)


async def never() -> bool:
    return False


def says_up(log: Path) -> bool:
    return "up" in log.read_text()


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def start_parent(log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PARENT, str(log)], stdout=subprocess.PIPE, text=True)


async def test_a_child_is_ready_when_its_probe_says_so_and_ends_with_the_block(tmp_path: Path) -> None:
    async def up() -> bool:
        return says_up(tmp_path / "thing.log")

    async with child(tmp_path, SLEEPER) as thing:
        await thing.ready(up, within_s=10)
        assert alive(thing.pid)
    assert not alive(thing.pid)
    assert await thing.wait() == -signal.SIGTERM


async def test_a_probe_that_cannot_connect_yet_is_asked_again(tmp_path: Path) -> None:
    answers = [ConnectionRefusedError(), False, True]

    async def up() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return bool(answer)

    async with child(tmp_path, SLEEPER) as thing:
        await thing.ready(up, within_s=10)
    assert answers == []


async def test_a_child_that_exits_early_fails_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "import sys; print('no room for', 'cats'); sys.exit(3)")
    began = time.monotonic()
    with pytest.raises(ChildFailed, match=r"(?s)exited with status 3 before it was ready.*no room for cats"):
        async with child(tmp_path, broken) as thing:
            await thing.ready(never, within_s=60)
    assert time.monotonic() - began < 10


async def test_a_command_that_does_not_exist_fails_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"(?s)status 127.*/no/such/thing: No such file"):
        async with child(tmp_path, ("/no/such/thing",)) as thing:
            await thing.ready(never, within_s=60)


async def test_a_child_that_is_never_ready_fails_in_time_and_is_ended(tmp_path: Path) -> None:
    thing = child(tmp_path, SLEEPER)
    with pytest.raises(ChildFailed, match=r"thing was not ready within 0\.3 s"):
        async with thing:
            await thing.ready(never, within_s=0.3)
    assert not alive(thing.pid)


async def test_a_child_deaf_to_sigterm_is_killed_after_its_deadline(tmp_path: Path) -> None:
    async def up() -> bool:
        return says_up(tmp_path / "thing.log")

    async with child(tmp_path, DEAF, stop_s_max=0.3) as thing:
        await thing.ready(up, within_s=10)
    assert await thing.wait() == -signal.SIGKILL


async def test_what_a_killed_child_leaves_behind_is_killed_with_it(tmp_path: Path) -> None:
    family = ("bash", "-c", "sleep 60 & echo $! up; wait")

    async def up() -> bool:
        return says_up(tmp_path / "thing.log")

    async with child(tmp_path, family) as thing:
        await thing.ready(up, within_s=10)
        grandchild = int((tmp_path / "thing.log").read_text().split()[0])
        os.kill(thing.pid, signal.SIGKILL)
        assert await thing.wait() == -signal.SIGKILL
        assert alive(grandchild)
    assert gone_within(grandchild, 2)


async def test_stopping_goes_on_when_the_stopper_is_cancelled(tmp_path: Path) -> None:
    async def up() -> bool:
        return says_up(tmp_path / "thing.log")

    thing = child(tmp_path, DEAF, stop_s_max=0.5)
    await thing.__aenter__()
    await thing.ready(up, within_s=10)
    stopping = asyncio.create_task(thing.stop())
    for _ in range(3):
        await asyncio.sleep(0.05)
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not alive(thing.pid)
    await thing.stop()


async def test_cancelling_the_block_ends_the_child(tmp_path: Path) -> None:
    thing = child(tmp_path, SLEEPER)
    started = asyncio.Event()

    async def run() -> None:
        async with thing:
            started.set()
            await thing.wait()

    running = asyncio.create_task(run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(thing.pid)


async def test_the_log_of_the_start_before_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second", "third"):
        async with child(tmp_path, (sys.executable, "-c", f"print('{word}')")) as thing:
            assert await thing.wait() == 0
    assert (tmp_path / "thing.log").read_text() == "third\n"
    assert (tmp_path / "thing.log.1").read_text() == "second\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    with start_parent(tmp_path / "sleeper.log") as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert gone_within(pid, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_child_whose_parent_died_before_it_could_ask_does_not_run() -> None:
    from engine.runtime import tether

    no_parent_of_ours = "1" if os.getpid() != 1 else "2"
    done = subprocess.run(
        [sys.executable, "-I", "-S", tether.__file__, no_parent_of_ours, "echo", "ran"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the parent process is gone" in done.stderr


async def test_ctrl_c_in_our_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    async with child(tmp_path, SLEEPER) as thing:
        assert os.getpgid(thing.pid) == thing.pid
        assert os.getsid(thing.pid) == thing.pid


async def test_a_child_without_a_log_says_what_it_says_where_we_do(capfd: pytest.CaptureFixture[str]) -> None:
    talker = (sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    with pytest.raises(ChildFailed, match=r"thing exited with status 3 before it was ready$"):
        async with Child("thing", talker, log=None) as thing:
            await thing.ready(never, within_s=60)
    assert capfd.readouterr() == ("out\n", "err\n")


async def test_a_child_inherits_the_descriptors_that_it_is_given_and_no_others(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    other = os.dup(writer)
    os.set_inheritable(other, True)
    code = f"import os; os.write({writer}, b'given'); os.write({other}, b'not given')"
    async with Child("thing", (sys.executable, "-c", code), log=tmp_path / "thing.log", pass_fds=[writer]) as thing:
        assert await thing.wait() == 1
    for descriptor in (writer, other):
        os.close(descriptor)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"given"


async def test_a_child_that_is_killed_has_no_time_to_end(tmp_path: Path) -> None:
    async def up() -> bool:
        return says_up(tmp_path / "thing.log")

    async with child(tmp_path, DEAF, stop_s_max=60) as thing:
        await thing.ready(up, within_s=10)
        thing.kill()
        assert await thing.wait() == -signal.SIGKILL
