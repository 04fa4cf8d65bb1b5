"""Tokens that somebody made to break in, by what is wrong with them. All are signed as well as can be."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.issuer import Signer

Sign = Callable[[bytes], bytes]
DEEP = 1_200
"""Levels, more than are read and within a token's 8 KiB; deeper ones are too long already."""
LONG_S = 86_400
"""Tokens are made when the tests are collected and judged when it is their turn: the suite may take its time."""


def encode(part: Any) -> str:
    """Return bytes, or an object as JSON, as a token has it."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Forger:
    """Knows the shared secret of the issuer `hmac`, and the private key of the issuer `es`."""

    def __init__(self, secret: bytes, signer: Signer, rsa_public_pem: bytes, issuer: str = "hmac") -> None:
        self._issuer = issuer
        self._secret = secret
        self._ec = signer
        self._rsa_public_pem = rsa_public_pem

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token of the issuer with the secret; one changed to None is left out."""
        said = {"iss": self._issuer, "aud": "tollway", "exp": int(time.time()) + LONG_S, "tenant": "acme", "sub": "ada"}
        return {name: value for name, value in (said | changes).items() if value is not None}

    def mac(self, signed: str, secret: bytes | None = None) -> bytes:
        return hmac.new(secret or self._secret, signed.encode(), hashlib.sha256).digest()

    def signed(self, said: Any, header: Any = None) -> str:
        """Return a token with whatever header and claims, and a right signature."""
        head = {"alg": "HS256", "typ": "JWT"} if header is None else header
        signed = f"{encode(head)}.{encode(said)}"
        return f"{signed}.{encode(self.mac(signed))}"

    def headed(self, **header: Any) -> str:
        """Return a good token with more in its header."""
        return self.signed(self.claims(), {"alg": "HS256"} | header)

    def raw(self, json_text: str) -> str:
        """Return a token whose claims are this text, `EXP` being a good time and `ISS` the issuer."""
        return self.signed(
            json_text.replace("EXP", str(int(time.time()) + LONG_S)).replace("ISS", self._issuer).encode()
        )

    def tokens(self) -> Iterator[tuple[str, str]]:
        """Yield what must be refused."""
        for family in (self._algorithms, self._headers, self._times, self._texts, self._shapes, self._es256):
            yield from family()

    def _algorithms(self) -> Iterator[tuple[str, str]]:
        header, payload, signature = self.signed(self.claims()).split(".")
        assert header
        names: list[Any] = ["none", "None", "nOnE", "NONE", "", "HS384", "hs256", "RS256", 5, None, [], {}, True]
        for name in names:
            for end in (signature, ""):
                yield f"alg {name!r} {'signed' if end else 'unsigned'}", f"{encode({'alg': name})}.{payload}.{end}"
        yield "no alg", f"{encode({'typ': 'JWT'})}.{payload}.{signature}"
        signed = f"{encode({'alg': 'HS256'})}.{encode(self.claims(iss='rsa'))}"
        for what, key in (("PEM", self._rsa_public_pem), ("stripped PEM", self._rsa_public_pem.strip())):
            yield f"public {what} as a secret", f"{signed}.{encode(self.mac(signed, key))}"
        yield "RS256 for an HMAC issuer", self._ec.sign(self._issuer, header={"alg": "ES256"})

    def _headers(self) -> Iterator[tuple[str, str]]:
        kids: list[Any] = [5, True, [], {}, ["a"], 0.5, "x" * 257, "x" * 5_000]
        for value in kids:
            yield f"kid {str(value)[:20]}", self.headed(kid=value)
        for crit in (["exp"], ["b64"], [], "exp", None, ["x"]):
            yield f"crit {crit!r}", self.headed(crit=crit, exp=1)
        for b64 in (False, None, 0, "true"):
            yield f"b64 {b64!r}", self.headed(b64=b64)
        yield "b64 by the book", self.headed(b64=False, crit=["b64"])
        good = '{"alg":"HS256","typ":"JWT"}'
        yield "alg twice", self.signed(self.claims(), b'{"alg":"none","alg":"HS256"}')
        yield "kid twice", self.signed(self.claims(), b'{"alg":"HS256","kid":"a","kid":"a"}')
        yield "twice by an escape", self.signed(self.claims(), rb'{"alg":"HS256","\u0061lg":"none"}')
        yield "header is a list", self.signed(self.claims(), b'["HS256"]')
        yield "header is not UTF-8", self.signed(self.claims(), b'{"alg":"HS256","x":"\xff"}')
        yield "header with more behind it", self.signed(self.claims(), (good + good).encode())
        yield "header with a BOM", self.signed(self.claims(), b"\xef\xbb\xbf" + good.encode())
        yield "header in UTF-16", self.signed(self.claims(), good.encode("utf-16"))
        yield "header with NaN", self.signed(self.claims(), b'{"alg":"HS256","x":NaN}')
        yield "deep header", self.signed(self.claims(), b'{"alg":"HS256","x":' + b"[" * DEEP + b"]" * DEEP + b"}")

    def _times(self) -> Iterator[tuple[str, str]]:
        now = int(time.time())
        later = now + LONG_S
        for name in ("exp", "nbf", "iat"):
            for value in (
                str(later),
                "",
                "1e3",
                True,
                False,
                [],
                [later],
                {},
                {"a": 1},
                -1,
                -1.5,
                2**53,
                10**30,
            ):
                what = repr(value).replace(str(later), "later")  # a name that is the same in each process
                yield f"{name} {what:.20}", self.signed(self.claims(**{name: value}))
            for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000, "null", "0x10", "01", "1e308"):
                if name != "exp" and text == "null":
                    continue
                said = f'{{"iss":"ISS","aud":"tollway","tenant":"acme","sub":"ada","exp":EXP,"{name}":{text}}}'
                raw = said.replace('"exp":EXP,', "") if name == "exp" else said
                yield f"{name} {text:.10}", self.raw(raw)
        yield "no exp", self.signed(self.claims(exp=None))
        yield "exp now", self.signed(self.claims(exp=now - 31))
        yield "exp 0", self.signed(self.claims(exp=0))
        yield "nbf later", self.signed(self.claims(nbf=later))
        yield "iat later", self.signed(self.claims(iat=later))
        yield "a null nbf", self.raw('{"iss":"ISS","aud":"tollway","tenant":"acme","sub":"ada","exp":EXP,"nbf":null}')

    def _texts(self) -> Iterator[tuple[str, str]]:
        odd = "\n|\r|\0|\u202e|\u200b|\ufeff|\u2028|\x7f|\x1b[2J|\ud800|\udfff|\u0085".split("|")
        for bad in (*(f"a{text}b" for text in odd), "", "x" * 129, 5, True, [], ["ada"], {"a": 1}, 0.5):
            for name in ("tenant", "sub", "plan"):
                yield f"{name} {bad!r:.20}", self.signed(self.claims(**{name: bad}))
        for tenant in ("acme ", "ACME", "*", "{acme}", "../acme", "__proto__", "acme/ada", "%61cme", "0"):
            yield f"tenant {tenant!r}", self.signed(self.claims(tenant=tenant))
        for name in ("iss", "aud", "exp", "sub", "tenant"):
            twice = json.dumps(self.claims())[:-1] + f', "{name}": {json.dumps(self.claims()[name])}}}'
            yield f"{name} twice", self.signed(twice.encode())
        yield (
            "twice deep within",
            self.signed(json.dumps(self.claims()).replace("{", '{"x": [{"a":1,"a":1}],', 1).encode()),
        )
        issuers: list[Any] = [
            None,
            "",
            "other",
            5,
            [self._issuer],
            {self._issuer: 1},
            f"{self._issuer}\0",
            self._issuer.upper(),
            f"{self._issuer} ",
        ]
        yield from self._each("iss", issuers)
        audiences: list[Any] = [
            None,
            "",
            "other",
            5,
            [],
            ["other"],
            {"tollway": 1},
            "tollway\0",
            [["tollway"]],
            [5, "tollway"],
        ]
        yield from self._each("aud", audiences)
        yield from self._each("jti", [5, ["t"], {"a": 1}, "x" * 257])
        yield from self._each("scope", [5, {"a": 1}, [5], ["\n"], ["x" * 129], ["s"] * 65])

    def _each(self, name: str, values: list[Any]) -> Iterator[tuple[str, str]]:
        for value in values:
            yield f"{name} {value!r:.20}", self.signed(self.claims(**{name: value}))

    def _shapes(self) -> Iterator[tuple[str, str]]:
        good = self.signed(self.claims())
        header, payload, signature = good.split(".")
        for what, text in {
            "empty": "",
            "dots": "..",
            "one part": header,
            "two parts": f"{header}.{payload}",
            "four parts": f"{good}.x",
            "five parts": f"{header}.{payload}.{signature}.{payload}.{signature}",
            "six parts": f"{good}.{good}",
            "no signature": f"{header}.{payload}.",
            "no claims": f"{header}..{signature}",
            "no header": f".{payload}.{signature}",
            "padding": f"{header}.{payload}.{signature}=",
            "all padded": ".".join(part + "==" for part in good.split(".")),
            "a space within": good.replace(".", ". "),
            "a tab within": good.replace(".", "\t.", 1),
            "a line's end": good + "\n",
            "a NUL behind": good + "\0",
            "more behind": good + "x",
            "much more behind": good + "AAAA",
            "less": good[:-1],
            "plus": f"{header}.{payload}.{'+' + signature[1:]}",
            "slash": f"{header}.{payload}.{'/' + signature[1:]}",
            "a letter that is none": f"{header}.{payload}.{signature[:-1]}é",
            "full-width": good.replace("e", "\uff45", 1),
            "a comma": f"{good},{good}",
            "two tokens": f"{good} {good}",
            "quoted": f'"{good}"',
            "too long": "x" * 8193,
            "huge": good + "x" * 60_000,
            "an encrypted one": ".".join([encode({"alg": "dir", "enc": "A256GCM"}), "", "x", "x", "x"]),
        }.items():
            yield what, text
        last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        other = last[last.index(signature[-1]) ^ 1]
        yield "another spelling of the same signature", good[:-1] + other
        for what, said in {
            "a list": b"[]",
            "text": b'"x"',
            "a number": b"5",
            "null": b"null",
            "nothing": b"",
            "half": json.dumps(self.claims()).encode()[:-1],
            "not UTF-8": b'{"iss":"hmac\xff"}',
            "two objects": json.dumps(self.claims()).encode() * 2,
            "a comment": b"{/**/}",
            "UTF-16": json.dumps(self.claims()).encode("utf-16"),
            "overlong": b'{"iss":"\xc0\xae"}',
            "CESU": b'{"iss":"\xed\xa0\x80"}',
            "deep": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
            "deep lists": b'{"a":' + b"[" * 5000,
            "one quote": b"{'a':1}",
        }.items():
            yield f"claims are {what}", self.signed(said)

    def _es256(self) -> Iterator[tuple[str, str]]:
        signed = f"{encode({'alg': 'ES256', 'kid': 'es'})}.{encode(self.claims(iss='es'))}"
        der = self._ec.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(der)
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        for what, pair in {
            "r is 0": (0, s),
            "s is 0": (r, 0),
            "both are 0": (0, 0),
            "r is the order": (order, s),
            "s is the order": (r, order),
            "swapped": (s, r),
        }.items():
            yield f"ES256, {what}", f"{signed}.{encode(pair[0].to_bytes(32) + pair[1].to_bytes(32))}"
        yield "ES256 in DER", f"{signed}.{encode(der)}"
        raw = r.to_bytes(32) + s.to_bytes(32)
        for what, changed in (
            ("short", raw[:-1]),
            ("long", raw + b"\0"),
            ("padded", b"\0" + raw),
            ("ES384's", raw + raw[:32]),
        ):
            yield f"ES256, {what}", f"{signed}.{encode(changed)}"
