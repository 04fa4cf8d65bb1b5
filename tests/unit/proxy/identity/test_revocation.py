import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.principal import Principal
from proxy.identity.revocation import Origin, Revocation, RevocationKind, Revoked, RevokedSubject

ADA = Principal("acme", "ada", "pro")
S = 1_000_000
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def revoked(*revocations: Revocation) -> Revoked:
    listed = Revoked()
    listed.replace(revocations)
    return listed


def origin(principal: Principal = ADA, jti: str | None = "t1", issued_at: float | None = 100) -> Origin:
    return Origin("iss", principal, jti, issued_at)


USER, TENANT = RevokedSubject(RevocationKind.USER, "ada", "acme"), RevokedSubject(RevocationKind.TENANT, "acme")


@pytest.mark.parametrize("subject", [USER, TENANT])
def test_revoking_somebody_refuses_what_was_issued_up_to_then(subject: RevokedSubject) -> None:
    listed = revoked(Revocation(subject, at_us=100 * S + 5))
    for issued_at, refused in ((99.5, True), (100, True), (101, False), (None, True)):
        assert listed.refuses(origin(issued_at=issued_at), 200) is refused


def test_nobody_else_is_refused() -> None:
    bob, other = Principal("acme", "bob", "pro"), Principal("globex", "ada", "pro")
    users = revoked(Revocation(USER, 100 * S))
    assert not users.refuses(origin(bob), 200)
    assert not users.refuses(origin(other), 200)
    tenants = revoked(Revocation(TENANT, 100 * S))
    assert tenants.refuses(origin(bob), 200)
    assert not tenants.refuses(origin(other), 200)
    assert not revoked().refuses(origin(), 200)


def test_a_jti_is_one_issuers_whenever_it_was_issued() -> None:
    listed = revoked(Revocation(RevokedSubject(RevocationKind.JTI, "t1", "iss"), at_us=0))
    assert listed.refuses(origin(), 200)
    assert not listed.refuses(origin(jti="t2"), 200)
    assert not listed.refuses(origin(jti=None), 200)
    assert not listed.refuses(Origin("another", ADA, "t1", 100), 200)


def test_a_revocation_may_end_by_itself() -> None:
    listed = revoked(Revocation(TENANT, 100 * S, until_us=300 * S))
    assert listed.refuses(origin(), 299.9)
    assert not listed.refuses(origin(), 300)


def test_a_new_list_is_a_new_version() -> None:
    listed = revoked(Revocation(TENANT, 100 * S))
    version = listed.version
    listed.replace([])
    assert listed.version != version
    assert not listed.refuses(origin(), 200)
    assert list(listed) == []


def test_an_id_reads_as_it_is_written() -> None:
    assert (str(USER), str(TENANT)) == ("user:acme/ada", "tenant:acme")
    assert str(RevokedSubject(RevocationKind.JTI, "a/b", "https://idp/")) == "jti:https%3A%2F%2Fidp%2F/a%2Fb"


@given(st.sampled_from([RevocationKind.JTI, RevocationKind.USER]), NAMES, NAMES)
def test_an_id_is_one_subjects(kind: RevocationKind, name: str, within: str) -> None:
    for subject in (RevokedSubject(kind, name, within), RevokedSubject(RevocationKind.TENANT, name)):
        assert RevokedSubject.of(str(subject)) == subject
        assert str(subject) != "version"


@pytest.mark.parametrize(
    "text",
    "|version|user:ada|user:/ada|user:acme/|tenant:acme/ada|tenant:|group:a|user:a/b/c|tenant:a%2|user:ac me/ada|jti:x|"
    "tenant:%FF".split("|"),
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RevokedSubject.of(text)
