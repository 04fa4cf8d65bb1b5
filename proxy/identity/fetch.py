"""
Fetches small JSON documents that issuers publish.

Decision: httpx with its client layer, here and nowhere else in `proxy`, because these are strangers' servers, asked a
few times an hour, where proxies and certificates of the environment count; `engine.wire.client` is made for replicas,
speaks to them without that layer, and may be replaced for speed.

Rules: no redirect is followed, nothing is decompressed, no cookie is kept, and a body is bounded while it is read. A
fault tells what happened and nothing of what was received.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import httpx

from proxy.identity.jose import read_object

BODY_BYTES_MAX = 256 * 1024
FETCH_S_MAX = 5.0
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])", re.IGNORECASE)


class FetchFailed(Exception):
    """The document could not be had; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object, and for how long its server wants it kept."""

    content: dict[str, Any]
    max_age_s: int | None


Fetch = Callable[[str], Awaitable[Document]]
"""Raises FetchFailed."""


class Fetcher:
    """
    `async with Fetcher() as fetch` gives a `Fetch`; or it is `prepared` once, and closed.

    Bounds: 256 KiB; each wait for the server 5 s, the whole to be bounded by who asks.
    """

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    def prepared(self) -> Self:
        """Read the certificates that are trusted, once; it takes a moment, which a thread of its own may spend."""
        if self._client is None:
            cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
            self._client = httpx.AsyncClient(follow_redirects=False, timeout=FETCH_S_MAX, cookies=cookies)
        return self

    async def aclose(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        """Read the certificates."""
        return self.prepared()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()

    async def __call__(self, url: str) -> Document:
        """Return the document at a URL; raise FetchFailed."""
        assert self._client is not None, "it is prepared before anything is fetched"
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        try:
            async with self._client.stream("GET", url, headers=headers) as answer:
                body = await _body(answer)
                cached = _MAX_AGE.search(answer.headers.get("cache-control", ""))
            return Document(read_object(body), int(cached[1]) if cached else None)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchFailed(type(error).__name__) from None
        except ValueError:
            raise FetchFailed("the answer is not one JSON object") from None


async def _body(answer: httpx.Response) -> bytes:
    if answer.status_code != httpx.codes.OK:
        raise FetchFailed(f"the answer has status {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("the answer is compressed")
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise FetchFailed(f"the answer is larger than {BODY_BYTES_MAX} bytes")
    return bytes(body)
