"""Credentials out of files: what is no key and no certificate is told by the field that names it."""

from pathlib import Path

import pytest

from engine.wire.credentials import NONE, CredentialFiles, UnusableCredentials
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def ours(authority: Authority) -> Pair:
    return authority.issue("gateway")


def fault(files: CredentialFiles) -> tuple[str, str]:
    with pytest.raises(UnusableCredentials) as caught:
        files.read()
    return caught.value.field, str(caught.value)


def key(folder: Path, content: bytes) -> CredentialFiles:
    (folder / "key").write_bytes(content)
    return CredentialFiles(api_key_file=folder / "key")


def test_a_key_is_a_line_of_the_head(tmp_path: Path) -> None:
    assert key(tmp_path, b"\n sk-1.~/+=\r\n").read().fields == b"authorization: Bearer sk-1.~/+=\r\n"


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"a\r\nx-evil: 1", b"a\0b", b"caf\xc3\xa9", b"x" * 8193]
)
def test_what_no_head_may_hold_is_no_key(tmp_path: Path, content: bytes) -> None:
    field, message = fault(key(tmp_path, content))
    assert field == "api_key_file"
    assert "x-evil" not in message
    assert "two" not in message


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert fault(CredentialFiles(api_key_file=tmp_path / "no")) == (
        "api_key_file",
        f"{tmp_path / 'no'} cannot be read: No such file or directory",
    )
    assert fault(CredentialFiles(ca_file=tmp_path)) == ("ca_file", f"{tmp_path} cannot be read: Is a directory")


def test_a_large_file_is_no_credential(tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(b"x" * 2_000_000)
    assert fault(CredentialFiles(ca_file=tmp_path / "ca"))[1].endswith("is larger than 1048576 bytes")


@pytest.mark.parametrize("content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_authorities_are_pem(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca").write_text(content)
    assert fault(CredentialFiles(ca_file=tmp_path / "ca")) == (
        "ca_file",
        f"{tmp_path / 'ca'} holds no certificates in PEM",
    )


def test_a_certificate_and_a_key_of_another_are_of_no_use(authority: Authority, ours: Pair) -> None:
    other = authority.issue("other")
    assert fault(CredentialFiles(cert_file=ours.certificate, key_file=other.key)) == (
        "cert_file",
        f"{ours.certificate} and {other.key} are no certificate and its key, both in PEM",
    )
    assert fault(CredentialFiles(cert_file=ours.key, key_file=ours.key))[0] == "cert_file"


def test_the_same_files_make_the_same_credentials_until_one_says_something_else(
    tmp_path: Path, authority: Authority, ours: Pair
) -> None:
    files = CredentialFiles(
        api_key_file=tmp_path / "key", ca_file=authority.ca_file, cert_file=ours.certificate, key_file=ours.key
    )
    (tmp_path / "key").write_text("one")
    first, again = files.read(), files.read()
    (tmp_path / "key").write_text("two")
    assert first.are(again)
    assert not first.are(files.read())
    assert not first.are(NONE)
    assert NONE.are(CredentialFiles().read())


def test_a_file_in_the_place_of_another_is_another(authority: Authority, ours: Pair) -> None:
    assert not CredentialFiles(ca_file=authority.ca_file).read().are(CredentialFiles(ca_file=ours.certificate).read())


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    assert "sk-secret" not in repr(key(tmp_path, b"sk-secret").read())
