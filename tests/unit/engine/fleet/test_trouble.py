"""What operators read of a replica that does not answer, and whether it is dead."""

import errno
import socket
import ssl

import httpx
import pytest

from engine.faults import ResponseTooLarge, UpstreamFault
from engine.fleet.trouble import SLOW, Trouble, of_fault, of_status
from engine.wire.client import fault_of


def caused(error: httpx.TransportError, cause: BaseException | None = None) -> UpstreamFault:
    """Return the fault that a transport's error is raised as."""
    error.__cause__ = cause
    fault = fault_of(error)
    fault.__cause__ = error
    return fault


def caused_by(error: OSError, cause: BaseException) -> OSError:
    """Return an error that is raised from another."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (
            caused(httpx.ConnectError("Connection refused"), ConnectionRefusedError(errno.ECONNREFUSED, "")),
            Trouble("Connection refused", gone=True),
        ),
        (
            caused(httpx.ConnectError("No route to host"), OSError(errno.EHOSTUNREACH, "")),
            Trouble("No route to host", silent=True),
        ),
        (
            caused(httpx.ConnectError("Name or service not known"), socket.gaierror(socket.EAI_NONAME, "")),
            Trouble("Name or service not known", silent=True),
        ),
        (
            caused(httpx.ConnectError("its certificate is not trusted"), ssl.SSLCertVerificationError(1, "")),
            Trouble("TLS: its certificate is not trusted"),
        ),
        (
            caused(httpx.ConnectError("it ended"), caused_by(ssl.SSLError(1, ""), ConnectionResetError())),
            Trouble("TLS: it ended"),
        ),
        (caused(httpx.ConnectTimeout("it took too long")), Trouble("timeout: it took too long", silent=True)),
        (caused(httpx.RemoteProtocolError("the connection ended")), Trouble("the connection ended", gone=True)),
        (caused(httpx.ReadError("the connection ended")), Trouble("the connection ended", gone=True)),
        (ResponseTooLarge("the answer is too large"), Trouble("the answer is too large")),
        (caused(httpx.ReadTimeout("")), SLOW),
        (UpstreamFault(), Trouble("failed")),
    ],
)
def test_a_fault_of_the_line_is_told_by_what_caused_it(fault: UpstreamFault, trouble: Trouble) -> None:
    assert of_fault(fault) == trouble


@pytest.mark.parametrize(("status", "gone"), [(503, True), (500, True), (404, False), (401, False)])
def test_a_status_is_told_and_one_of_the_servers_own_failure_is_death(status: int, *, gone: bool) -> None:
    assert of_status(status) == Trouble(f"HTTP status {status}", gone=gone)
