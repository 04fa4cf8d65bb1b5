"""An identity provider on the loopback: real keys, a real HTTP server, and every way in which one fails."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

JWKS = "/keys"
DISCOVERY = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its id."""

    kid: str | None
    algorithm: str
    private: Any

    @classmethod
    def of(cls, algorithm: str, kid: str | None = None, *, bits: int = 2048) -> "Signer":
        """Generate a key that fits an algorithm; its id is the algorithm's name for None."""
        private: Any
        if algorithm in _CURVES:
            private = ec.generate_private_key(_CURVES[algorithm])
        elif algorithm == "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        elif algorithm == "Ed448":
            algorithm, private = "EdDSA", ed448.Ed448PrivateKey.generate()
        else:
            private = rsa.generate_private_key(65537, bits)
        return cls(kid or algorithm, algorithm, private)

    def jwk(self, *, private: bool = False, **changes: Any) -> dict[str, Any]:
        """Return the key as an issuer publishes it; a member changed to None is left out."""
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        key = self.private if private else self.private.public_key()
        members = json.loads(algorithm.to_jwk(key)) | {"key_ops": None, "use": "sig", "alg": self.algorithm}
        members |= {"kid": self.kid} | changes
        return {name: value for name, value in members.items() if value is not None}

    def sign(self, issuer: str, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a token for acme's ada; a claim changed to None is left out."""
        said = {"iss": issuer, "aud": "tollway", "exp": int(time.time()) + 60, "tenant": "acme", "sub": "ada"} | changes
        claims = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid} | (header or {}))


@dataclass
class Answer:
    """What the provider answers at one path."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    before: threading.Event | None = None
    """Not before this is set."""


class Provider:
    """What answers, and how often it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.cookies: list[str] = []
        """What askers sent back of the cookies they were given."""

    def publish(self, *keys: dict[str, Any], **headers: str) -> None:
        """Publish these keys, and where they are."""
        about = {"issuer": self.url, "jwks_uri": self.url + JWKS}
        self.answers[DISCOVERY] = Answer(json.dumps(about).encode())
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[JWKS] = Answer(json.dumps({"keys": keys}).encode(), headers=named)

    def fail(self, status: int = 500) -> None:
        """Answer every request by this status."""
        for path in (JWKS, DISCOVERY):
            self.answers[path] = Answer(status=status)


async def wait_until(ready: Callable[[], object]) -> None:
    """Wait until something is so, 20 s at most."""
    deadline = time.monotonic() + 20
    while True:
        if ready():
            return
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.002)


@contextmanager
def provider() -> Iterator[Provider]:
    """Run a provider that nothing is published at yet."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            running.asked[path] += 1
            running.cookies += self.headers.get_all("cookie", [])
            answer = running.answers.get(path, Answer(status=404))
            if answer.before:
                answer.before.wait(30)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing when a client hangs up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        running = Provider(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
