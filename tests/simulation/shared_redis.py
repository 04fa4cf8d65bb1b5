"""
The one Redis of a world: a real redis-server with the real scripts, that sees virtual time.

Decision: real scripts on a real server, each call made synchronously at its virtual instant. Because it is the Lua that
bills; instead of a model of it, which would have to be proven equal first. The server's own clock decides nothing:
scripts read a hash instead of TIME, and what expires within a world's life expires here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis

from proxy.redis.client import Value
from proxy.redis.script import Script
from tests.simulation.clock import Clock

_TIME = "redis.call('TIME')"
_VIRTUAL_TIME = "redis.call('HMGET', 'simulation:clock', 's', 'us')"

Rewrite = Callable[[Script, str], str]
"""What a test may do to a script's text, to see that the world notices."""


def unchanged(script: Script, text: str) -> str:
    """Return a script as it is."""
    del script
    return text


class SharedRedis:
    """Answers every call at once."""

    def __init__(self, url: str, clock: Clock, rewrite: Rewrite = unchanged) -> None:
        self.starts = 1
        """How often it was started."""
        self._url = url
        self._clock = clock
        self._rewrite = rewrite
        self._shas: dict[str, str] = {}
        self._told_us = 0
        self._expiries: dict[str, int] = {}
        self.granted: dict[str, int] = {}
        """The completion tokens a choice that each request was granted, whether or not its gateway learnt of it."""
        self._client: Any = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Begin empty."""
        with Redis.from_url(self._url, decode_responses=True) as self._client:
            self._client.flushall()
            yield

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Value]) -> str:
        """Run a script now."""
        sha = self._shas.get(script.name) or self._learn(script)
        self._tell_time()
        answer: str = self._client.evalsha(sha, len(keys), *keys, *args)
        if script.name == "reserve" and answer.split()[1] == "granted":
            self.granted[str(args[0])] = int(answer.split()[2])
        return answer

    def servers(self) -> frozenset[str]:
        """Tell which start this is."""
        return frozenset([str(self.starts)])

    def call(self, command: str, *args: Value) -> Any:
        """Run a command now."""
        if command == "SET" and "PX" in args:
            return self._set_for_a_while(*args)
        return self._client.execute_command(command, *args)

    def _learn(self, script: Script) -> str:
        assert _TIME in script.text, "a script that reads no clock"
        text = self._rewrite(script, script.text).replace(_TIME, _VIRTUAL_TIME)
        sha: str = self._client.script_load(text)
        self._shas[script.name] = sha
        return sha

    def _tell_time(self) -> None:
        now_us = self._clock.now_us
        if now_us == self._told_us:
            return
        self._told_us = now_us
        seconds, micros = divmod(now_us, 1_000_000)
        self._client.hset("simulation:clock", mapping={"s": seconds, "us": micros})

    def _set_for_a_while(self, key: Value, value: Value, *options: Value) -> Any:
        now_us = self._clock.now_us
        if self._expiries.get(str(key), 0) <= now_us:
            self._client.delete(key)
        taken = self._client.set(key, value, nx="NX" in options)
        if taken:
            self._expiries[str(key)] = now_us + 1_000 * int(options[options.index("PX") + 1])
        return "OK" if taken else None
