"""Published keys over a played endpoint: when it is asked, who waits, and what is believed while it fails."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest

from proxy.errors import KeysUnavailable
from proxy.identity.fetch import Document, FetchFailed
from proxy.identity.keys import VerifyingKey
from proxy.identity.published import PublishedKeys
from proxy.settings.sections import Issuer
from tests.issuer import Signer, wait_until

ISSUER = Issuer(issuer="https://idp.example", jwks_url="https://idp.example/keys")
OLD, NEW = Signer.of("EdDSA", "old"), Signer.of("EdDSA", "new")


class Endpoint:
    """What is published; None fails."""

    def __init__(self, *keys: Signer) -> None:
        self.keys: tuple[Signer, ...] | None = keys
        self.max_age_s: int | None = None
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.told: list[bool] = []

    async def __call__(self, url: str) -> Document:
        self.asked.append(url)
        await self.open.wait()
        if self.keys is None:
            raise FetchFailed("the answer has status 500")
        return Document({"keys": [key.jwk() for key in self.keys]}, self.max_age_s)

    def tell(self, issuer: str, ok: bool) -> None:  # noqa: FBT001
        assert issuer == ISSUER.issuer
        self.told.append(ok)


async def find(keys: PublishedKeys, kid: str) -> VerifyingKey | None:
    found = await keys.keys(kid, "EdDSA")
    return found[0] if found else None


async def test_keys_are_fetched_at_once_and_a_known_key_costs_no_fetch() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        first = await find(keys, "old")
        assert first is not None
        assert await find(keys, "old") is first
    assert (endpoint.asked, endpoint.told) == (["https://idp.example/keys"], [True])


async def test_a_new_key_works_after_one_fetch_and_the_withdrawn_one_is_retired() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        withdrawn = await find(keys, "old")
        endpoint.keys = (NEW,)
        assert await find(keys, "new") is not None
        assert withdrawn is not None
        assert withdrawn.retired
        assert len(endpoint.asked) == 2


async def test_whoever_needs_a_key_waits_for_the_one_fetch_under_way() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        await find(keys, "old")
        endpoint.open.clear()
        endpoint.keys = (OLD, NEW)
        waiting = [asyncio.create_task(find(keys, "new")) for _ in range(50)]
        await wait_until(lambda: len(endpoint.asked) == 2)
        assert await find(keys, "old") is not None, "a known key waits for nobody"
        waiting[0].cancel()
        with suppress(asyncio.CancelledError):
            await waiting[0]
        endpoint.open.set()
        found = await asyncio.gather(*waiting[1:])
        assert all(found)
    assert len(endpoint.asked) == 2


async def test_keys_that_do_not_exist_have_it_asked_once_in_ten_seconds() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        await find(keys, "old")
        for number in range(100):
            assert await find(keys, str(number)) is None
        assert len(endpoint.asked) == 2
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell, ask_s_min=0) as keys:
        await find(keys, "old")
        for number in range(5):
            assert await find(keys, str(number)) is None
        assert len(endpoint.asked) == 2 + 1 + 5


async def test_a_known_key_with_another_algorithm_asks_for_nothing() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        await find(keys, "old")
        assert await keys.keys("old", "RS256") == ()
    assert len(endpoint.asked) == 1


async def test_while_the_endpoint_was_never_reached_nothing_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint()
    endpoint.keys = None
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell, retry_s=0.01) as keys:
        with pytest.raises(KeysUnavailable):
            await find(keys, "old")
        endpoint.keys = (OLD,)
        await wait_until(lambda: endpoint.told[-1])
        assert await find(keys, "old") is not None
    assert endpoint.told[0] is False
    record = caplog.records[0]
    assert (record.message, record.levelno) == ("keys_not_fetched", logging.WARNING)
    assert (record.__dict__["issuer"], record.__dict__["reason"]) == (ISSUER.issuer, "the answer has status 500")


async def test_while_the_endpoint_fails_the_keys_at_hand_are_good_and_unknown_ones_cannot_be_told() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell, ask_s_min=0, retry_s=60) as keys:
        known = await find(keys, "old")
        endpoint.keys = None
        with pytest.raises(KeysUnavailable):
            await find(keys, "new")
        assert await find(keys, "old") is known
        endpoint.keys = ()
        with pytest.raises(KeysUnavailable):
            await find(keys, "new")
        assert known is not None
        assert not known.retired, "an empty set is a fault, not a withdrawal"


async def test_keys_that_were_not_renewed_for_too_long_are_retired_until_the_endpoint_answers() -> None:
    endpoint = Endpoint(OLD)
    issuer = ISSUER.model_copy(update={"refresh_s": 0.01, "stale_s_max": 0.1})
    async with PublishedKeys(issuer, endpoint, endpoint.tell, retry_s=0.01) as keys:
        known = await find(keys, "old")
        assert known is not None
        endpoint.keys = None
        await wait_until(lambda: known.retired)
        with pytest.raises(KeysUnavailable):
            await find(keys, "old")
        endpoint.keys = (OLD,)
        await wait_until(lambda: endpoint.told[-1])
        again = await find(keys, "old")
        assert again is not None
        assert again is not known


@pytest.mark.parametrize(
    ("max_age_s", "kept_s"), [(None, 300), (0, 60), (59, 60), (600, 600), (86_400, 86_400), (999_999_999, 86_400)]
)
async def test_max_age_counts_from_a_minute_to_a_day(
    monkeypatch: pytest.MonkeyPatch, max_age_s: int | None, kept_s: int
) -> None:
    endpoint, waits = Endpoint(OLD), list[float]()
    endpoint.max_age_s = max_age_s
    timeout = asyncio.timeout

    def noted(delay: float) -> Any:
        waits.append(delay)
        return timeout(delay)

    monkeypatch.setattr(asyncio, "timeout", noted)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell) as keys:
        await find(keys, "old")
        await asyncio.sleep(0)
    assert kept_s in waits


async def test_a_document_that_cannot_be_understood_is_a_fault_and_no_end_of_the_background() -> None:
    endpoint = Endpoint(OLD)
    async with PublishedKeys(ISSUER, endpoint, endpoint.tell, ask_s_min=0) as keys:
        known = await find(keys, "old")
        endpoint.keys = (Signer("weak", "RS256", Signer.of("RS256", bits=1024).private),)
        with pytest.raises(KeysUnavailable):
            await find(keys, "new")
        endpoint.keys = (OLD, NEW)
        assert await find(keys, "new") is not None
        assert await find(keys, "old") is known
