"""
Everything that can go wrong with a replica, as one tree; and what is wrong with a request, whoever finds out.
"""

_CAUSED_BY_REQUEST = frozenset({400, 413, 422, 500})
"""Statuses of an engine that say something about the request, and not only about the engine."""


class UpstreamFault(Exception):
    """The replica did not answer as it should."""

    reason = "failed"
    """The fault in one word, for a metric's label."""
    counts = False
    """Whether the request may have caused it: then it counts as one, though nobody is billed for it."""
    again = True
    """Whether another replica may be asked; never where this one may have done all the work."""


class ConnectFailed(UpstreamFault):
    """No connection: the replica never saw the request."""

    reason = "connect"


class TlsFailed(ConnectFailed):
    """The two sides do not believe each other, or one of them does not speak TLS."""

    reason = "tls"


class Declined(UpstreamFault):
    """The replica answered with an error of its own instead of working: overload, a dying engine, a drain."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.reason = f"status_{status}" if status is not None and 100 <= status <= 599 else "error_frame"
        self.counts = status in _CAUSED_BY_REQUEST


class UpstreamTimeout(UpstreamFault):
    """The replica was silent past a deadline."""

    reason = "timeout"
    counts = True
    again = False


class UpstreamBroken(UpstreamFault):
    """The connection ended early, the engine gave the request up, or what came is not what vLLM sends."""

    reason = "broken"


class ReplicaGone(UpstreamBroken):
    """The replica is known to be dead, and its connection says nothing more."""

    reason = "gone"


class ForeignAnswer(UpstreamBroken):
    """What came is the answer to another request: the connection is of no more use."""

    reason = "foreign"


class MalformedStream(UpstreamBroken):
    """A frame that never ends, or one that cannot be read."""

    reason = "malformed"


class Unreadable(UpstreamBroken):
    """The engine has answered, and what it says is of no use: the work is done, and nobody is asked to do it again."""

    reason = "unreadable"
    counts = True
    again = False

    def __init__(self, message: str = "", *, tokens: int = 0) -> None:
        super().__init__(message)
        self.tokens = tokens
        """What it says that it used, be that possible or not; 0 where nobody knows."""


class ResponseTooLarge(Unreadable):
    """The body passed the bound it was read with."""

    reason = "too_large"


class FrameTooLarge(MalformedStream):
    """A frame passed its bound, and would do so on any replica."""

    reason = "too_large"
    counts = True
    again = False


class EngineRefused(Exception):
    """The engine turned the request itself down, with an answer that says why; no replica would do otherwise."""

    again = False

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.reason = f"refused_{status}"
        self.body = body


class MalformedRequest(Exception):
    """The body is not what the endpoint takes; `param` names the field when there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
