"""
What is wrong with a replica that does not answer as it should: in words for people, and whether that is death.

Rule: silence is not death. A replica is gone where nothing listens any more, where connections to it are torn down, or
where it says itself that it cannot work; one that is slow or far away may be at work all the same.
"""

from typing import NamedTuple

from engine.faults import ConnectFailed, TlsFailed, UpstreamBroken, UpstreamFault, UpstreamTimeout


class Trouble(NamedTuple):
    """Why a replica is given no work."""

    cause: str
    """In words of ours or of the system; nothing that the replica wrote."""
    gone: bool = False
    """Whether what it was given is lost."""
    silent: bool = False
    """Whether nothing was heard of it at all."""


SLOW = Trouble("timeout: no answer in time", silent=True)
HUNG = Trouble("timeout: its requests ran into their deadlines, and it answers no probe")


def of_status(status: int) -> Trouble:
    """Return what a status other than 200 says; one of 500 and above is the replica's own word that it cannot work."""
    return Trouble(f"HTTP status {status}", gone=status >= 500)


def of_fault(fault: UpstreamFault) -> Trouble:
    """Return what a fault of the line says, by what caused it."""
    cause = _root(fault)
    match fault:
        case TlsFailed():
            return Trouble(f"TLS: {fault}")
        case ConnectFailed() if isinstance(cause, OSError):
            refused = isinstance(cause, ConnectionError)
            return Trouble(str(fault), gone=refused, silent=not refused)
        case ConnectFailed():
            return Trouble(f"timeout: {cause}", silent=True)
        case UpstreamTimeout():
            return SLOW
        case _:
            # Whoever ends a connection without an answer, or answers otherwise than in HTTP, is no engine any more.
            return Trouble(str(cause) or fault.reason, gone=type(fault) is UpstreamBroken)


def _root(fault: BaseException) -> BaseException:
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return fault
