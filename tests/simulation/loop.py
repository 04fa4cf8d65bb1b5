"""
An event loop without a clock and without sockets: when nothing is ready, time jumps to the next timer.

Rules: the same callbacks in the same order give the same run. What belongs to a `Process` (by the context it was begun
in) runs only while that process does: a paused one finds, when it goes on, everything that became due meanwhile; a
killed one never finds anything again. A loop with nothing ready and no timer waits for ever, which is an error.
"""

import asyncio
import heapq
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

from tests.simulation.in_order import InOrder


class Stuck(AssertionError):
    """Somebody waits for what nobody will do."""


class Process:
    """Tasks that share one fate, as those of an operating system's process do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.killed = False
        """Nothing that it does from now on has an effect."""
        self.due: list[asyncio.Handle] = []
        self.tasks = InOrder[asyncio.Task[Any]]()
        self._context = copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine as a task of this process."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        return task

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.make_ready(self.due)
        self.due = []

    def kill(self) -> None:
        """End without another step."""
        self.killed = self.paused = True

    async def bury(self) -> None:
        """Let what is left of a killed process fall apart, so that nothing is left behind in this interpreter."""
        self.killed = True
        for task in self.tasks:
            task.cancel()
        self.resume()
        while left := [task for task in self.tasks if not task.done()]:
            await asyncio.wait(left)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
OUTSIDE = Context()
"""The context of what belongs to no process: the network and the world."""


def current() -> Process | None:
    """Return the process that this code belongs to."""
    return _PROCESS.get()


class _Handle(asyncio.Handle):
    def _run(self) -> None:
        process = self._context.get(_PROCESS)  # type: ignore[attr-defined]
        if process is not None and process.paused:
            process.due.append(self)
        else:
            super()._run()


class _TimerHandle(_Handle, asyncio.TimerHandle):
    """Of two timers for one instant the one that was set first goes first."""

    number = 0

    def __lt__(self, other: object) -> bool:
        assert isinstance(other, _TimerHandle)
        return (self.when(), self.number) < (other.when(), other.number)


class VirtualLoop(asyncio.BaseEventLoop):
    """Time in seconds from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._timers = 0
        self._selector = self
        self._clock_resolution = 1e-7
        self.set_task_factory(_task)
        self.faults: list[dict[str, Any]] = []
        """What no task took responsibility for."""
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        """Return the virtual time."""
        return self.now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Be the loop's selector: nothing ever comes from outside, so waiting is skipped."""
        if timeout is None:
            raise Stuck("nothing is ready, nothing is due, and somebody waits")
        self.now_s += timeout
        return []

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Call in the next turn, once its process runs."""
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at a time, once its process runs."""
        timer = _TimerHandle(when, callback, args, self, context)
        self._timers += 1
        timer.number = self._timers
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run at once: there are no threads."""
        del executor
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as fault:  # noqa: BLE001 (it belongs to whoever awaits)
            done.set_exception(fault)
        return done

    def make_ready(self, handles: list[asyncio.Handle]) -> None:
        """Put back what a pause held up."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    process = context.get(_PROCESS) if context is not None else _PROCESS.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task
