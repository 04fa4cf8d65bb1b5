"""
What a replica is shown by this gateway, and by what this gateway knows a replica.

Rules:
- A key goes out in the head of each request to its replica, and nowhere else: no message and no `repr` holds it.
- Whoever is spoken to by `https` has proven to be the host that leads to it, or is not spoken to.
"""

import hashlib
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_KEY_BYTES_MAX = 8192
_FILE_BYTES_MAX = 1024 * 1024


class UnusableCredentials(Exception):
    """A file does not hold what it should; `field` is what names it. The message tells no content."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFiles:
    """Where credentials are kept."""

    api_key_file: Path | None = None
    """A key that is shown to the replica as a bearer's."""
    ca_file: Path | None = None
    """PEM certificates of who vouches for the replica; None for those that the system trusts."""
    cert_file: Path | None = None
    """PEM certificate (and what leads from it to its authority) that the replica is shown."""
    key_file: Path | None = None
    """The PEM key of that, without a passphrase."""

    def read(self) -> "Credentials":
        """Return what the files hold now; raise `UnusableCredentials`."""
        if self == CredentialFiles():
            return NONE
        api_key = self._contents("api_key_file", self.api_key_file).strip()
        if self.api_key_file is not None:
            _check_key(api_key)
        pems = [
            self._contents(name, path)
            for name, path in (("ca_file", self.ca_file), ("cert_file", self.cert_file), ("key_file", self.key_file))
        ]
        fields = b"authorization: Bearer %b\r\n" % api_key if api_key else b""
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (api_key, *pems))).digest()
        return Credentials(fields, self._context() if self.ca_file or self.cert_file else None, digest)

    def _contents(self, field: str, path: Path | None) -> bytes:
        if path is None:
            return b""
        try:
            with path.open("rb") as file:
                contents = file.read(_FILE_BYTES_MAX + 1)
        except OSError as error:
            raise UnusableCredentials(field, f"{path} cannot be read: {error.strerror}") from None
        if len(contents) > _FILE_BYTES_MAX:
            raise UnusableCredentials(field, f"{path} is larger than {_FILE_BYTES_MAX} bytes")
        return contents

    def _context(self) -> ssl.SSLContext:
        try:
            context = _context(self.ca_file)
        except OSError:
            raise UnusableCredentials("ca_file", f"{self.ca_file} holds no certificates in PEM") from None
        if self.cert_file is not None:
            try:
                # A key with a passphrase is refused: nobody is there to be asked for it.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except OSError:
                message = f"{self.cert_file} and {self.key_file} are no certificate and its key, both in PEM"
                raise UnusableCredentials("cert_file", message) from None
        return context


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Credentials:
    """What is shown and who is trusted, ready for any number of connections."""

    fields: bytes = b""
    """Lines of each head."""
    tls: ssl.SSLContext | None = None
    """What `https` is spoken with; None trusts whom the system trusts, and shows nothing."""
    digest: bytes = b""

    def are(self, others: "Credentials") -> bool:
        """Tell whether they were made of the same: then connections made with the others serve on."""
        return self.digest == others.digest

    def context(self) -> ssl.SSLContext:
        """Return what `https` is spoken with."""
        return self.tls or usual_context()


NONE = Credentials()
"""Nothing is shown; of whom the system trusts, each is believed."""


@cache
def usual_context() -> ssl.SSLContext:
    """Return what speaks with whom the system trusts; reading the system's list takes milliseconds."""
    return _context(None)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_key(key: bytes) -> None:
    if not key or len(key) > _KEY_BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in key):
        raise UnusableCredentials(
            "api_key_file", f"must hold one key: 1 to {_KEY_BYTES_MAX} printable ASCII characters without a space"
        )
