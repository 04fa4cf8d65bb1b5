"""A loop whose time a test moves, and a socket that notes what is done to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(eq=False)
class PlayedTimer:
    """What a loop hands out for a call to come."""

    when_s: float
    call: Callable[[], object]
    timers: list["PlayedTimer"]

    def cancel(self) -> None:
        if self in self.timers:
            self.timers.remove(self)


class PlayedLoop:
    """Timers alone."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[PlayedTimer] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, call: Callable[..., object], *args: Any) -> PlayedTimer:
        timer = PlayedTimer(when_s, partial(call, *args), self._timers)
        self._timers.append(timer)
        return timer

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> PlayedTimer:
        return self.call_at(self.now_s + delay_s, call, *args)

    @property
    def waiting(self) -> int:
        """How many timers are set."""
        return len(self._timers)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while due := [timer for timer in self._timers if timer.when_s <= end_s]:
            timer = min(due, key=lambda each: each.when_s)
            timer.cancel()
            self.now_s = timer.when_s
            timer.call()
        self.now_s = end_s


class PlayedSocket(asyncio.Transport):
    """One that is never read from; `unread` is what its client has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.written = b""
        self.unread = 0

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.done))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.done.append("write_eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def pause_reading(self) -> None:
        self.done.append("pause_reading")

    def resume_reading(self) -> None:
        self.done.append("resume_reading")
