"""httpx's own transport, held to the same as ours: slow, and right."""

import socket

import httpx

_RECEIVE_BYTES = 131_072
_CONNECTIONS_MAX = 1_000


class StockTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncHTTPTransport` that tells when a request is sent, and replaces a kept connection that was closed."""

    def __init__(self, keepalive_s: float) -> None:
        self._pooled = _stock(keepalive_s, keepalive_max=_CONNECTIONS_MAX)
        self._fresh = _stock(keepalive_s, keepalive_max=0)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pooled.aclose()
        await self._fresh.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer; raise `httpx.TransportError`."""
        connected = False
        sent = request.extensions["sent"]

        async def trace(event: str, _: object) -> None:
            nonlocal connected
            connected = connected or event == "connection.connect_tcp.started"
            if event == "http11.send_request_headers.started":
                sent()

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return await self._pooled.handle_async_request(request)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if connected or not _nothing_came(error):
                raise
        return await self._fresh.handle_async_request(request)


def _stock(keepalive_s: float, *, keepalive_max: int) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=_CONNECTIONS_MAX, max_keepalive_connections=keepalive_max, keepalive_expiry=keepalive_s
    )
    buffer = (socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return httpx.AsyncHTTPTransport(limits=limits, socket_options=[buffer])


def _nothing_came(error: httpx.TransportError) -> bool:
    """Tell a connection that ended before a whole head from one that spoke no HTTP."""
    if isinstance(error, httpx.RemoteProtocolError):
        return str(error).startswith("Server disconnected without sending a response")
    return isinstance(error, httpx.ReadError | httpx.WriteError)
