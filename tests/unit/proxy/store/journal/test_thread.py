import asyncio
import threading
from functools import partial

import pytest

from proxy.store.journal import thread as module
from proxy.store.journal.thread import Thread


async def test_jobs_run_in_order_in_another_thread_and_tell_the_loop() -> None:
    thread, told = Thread("t"), list[object]()
    for number in range(3):
        thread.submit(partial(int, number), lambda result, fault: told.append(result))
    assert await thread.run(threading.get_ident) != threading.get_ident()
    assert told == [0, 1, 2]
    await thread.stop()


async def test_what_a_job_raises_is_raised_where_it_is_awaited() -> None:
    thread = Thread("t")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 7) == 7
    await thread.stop()


async def test_a_cancelled_wait_leaves_the_job_alone() -> None:
    thread, go = Thread("t"), threading.Event()
    waiting = asyncio.create_task(thread.run(go.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    go.set()
    assert await thread.run(lambda: 7) == 7
    await thread.stop()


async def test_leaving_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S_MAX", 0.01)
    thread, go = Thread("t"), threading.Event()
    thread.submit(go.wait, lambda result, fault: None)
    await thread.stop()
    go.set()
