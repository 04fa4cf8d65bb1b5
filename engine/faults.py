"""
Everything that can go wrong with a replica, as one tree; and what is wrong with a request, whoever finds out.
"""


class UpstreamFault(Exception):
    """The replica did not answer as it should."""


class ConnectFailed(UpstreamFault):
    """No connection: the replica never saw the request."""


class Declined(UpstreamFault):
    """The replica answered with an error of its own instead of working: overload, a dying engine, a drain."""


class UpstreamTimeout(UpstreamFault):
    """The replica was silent past a deadline."""


class UpstreamBroken(UpstreamFault):
    """The connection ended early, the engine gave the request up, or what came is not what vLLM sends."""


class MalformedStream(UpstreamBroken):
    """A frame that never ends, or one that cannot be read."""


class ResponseTooLarge(UpstreamBroken):
    """The body passed the bound it was read with."""


class EngineRefused(Exception):
    """The engine turned the request itself down, with an answer that says why; no replica would do otherwise."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class MalformedRequest(Exception):
    """The body is not what the endpoint takes; `param` names the field when there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
