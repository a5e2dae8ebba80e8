"""Claims in the customers' bucket: two vaults that cannot see each other are kept apart, on both servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.testbed.services import S3Server

from s3gc.exceptions import RefusedError
from s3gc.store.bucket import Bucket
from s3gc.vault.claim import CLAIMS_PREFIX, claim, claim_key, release_claim
from s3gc.vault.scopes import Scope

ONE, TWO = "01HXVAULT0000000000000000A", "01HXVAULT0000000000000000B"


def scope(name: str, *prefixes: str, excluded: tuple[str, ...] = ()) -> Scope:
    return Scope(name, name, "bucket", None, prefixes or ("",), excluded)


@pytest.fixture
async def bucket(
    s3: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None]
) -> AsyncIterator[Bucket]:
    credentials(s3)
    opened = await Bucket.open(make_bucket(s3, versioning=True), endpoint_url=s3.endpoint)
    yield opened
    await opened.close()


async def claims(bucket: Bucket) -> list[str]:
    return [
        key async for page in bucket.list_pages(CLAIMS_PREFIX) for key in page.rows.column("key").to_pylist()
    ]


async def test_a_claim_is_written_once_and_repeated_without_a_write(bucket: Bucket) -> None:
    await claim(bucket, ONE, scope("media"))
    written = bucket.requests["PutObject"]
    await claim(bucket, ONE, scope("media"))
    assert bucket.requests["PutObject"] == written, (
        "each write would be one more version in the customer's bucket"
    )
    assert await claims(bucket) == [claim_key(ONE, scope("media"))]


@pytest.mark.parametrize(
    ("theirs", "is_refused"),
    [(("",), True), (("a/",), True), (("a/b/",), True), (("a",), True), (("b/",), False), (("ab/",), False)],
)
async def test_an_overlapping_claim_of_another_vault_refuses(
    bucket: Bucket, theirs: tuple[str, ...], is_refused: bool
) -> None:
    await claim(bucket, TWO, scope("theirs", *theirs))
    if not is_refused:
        await claim(bucket, ONE, scope("ours", "a/"))
        return
    with pytest.raises(RefusedError, match=TWO) as caught:
        await claim(bucket, ONE, scope("ours", "a/"))
    assert caught.value.details["guard"] == "overlap"
    assert await claims(bucket) == [claim_key(TWO, scope("theirs"))], "a refused claim is not left behind"


async def test_two_scopes_of_one_vault_keep_their_own_claims(bucket: Bucket) -> None:
    await asyncio.gather(claim(bucket, ONE, scope("a", "a/")), claim(bucket, ONE, scope("b", "b/")))
    assert len(await claims(bucket)) == 2
    with pytest.raises(RefusedError):
        await claim(bucket, TWO, scope("c", "b/c/"))


async def test_a_prefix_that_is_left_out_may_be_another_vaults(bucket: Bucket) -> None:
    await claim(bucket, TWO, scope("theirs", "", excluded=("mine/",)))
    await claim(bucket, ONE, scope("ours", "mine/sub/"))


async def test_edited_prefixes_are_claimed_anew(bucket: Bucket) -> None:
    await claim(bucket, ONE, scope("media", "a/"))
    await claim(bucket, ONE, scope("media", "b/"))
    await claim(bucket, TWO, scope("other", "a/"))
    with pytest.raises(RefusedError):
        await claim(bucket, TWO, scope("other", "b/"))


async def test_a_claim_that_cannot_be_read_may_own_everything(bucket: Bucket) -> None:
    await bucket.put(f"{CLAIMS_PREFIX}{TWO}/x.json", b"{", size=1)
    with pytest.raises(RefusedError, match="cannot be read"):
        await claim(bucket, ONE, scope("media", "a/"))


async def test_a_released_claim_is_no_claim(bucket: Bucket) -> None:
    await claim(bucket, TWO, scope("theirs"))
    await release_claim(bucket, TWO, scope("theirs"))
    await claim(bucket, ONE, scope("ours"))


async def test_of_two_vaults_that_claim_together_never_both_go_on(bucket: Bucket) -> None:
    for attempt in range(5):
        prefix = f"{attempt}/"
        results = await asyncio.gather(
            claim(bucket, ONE, scope(f"a{attempt}", prefix)),
            claim(bucket, TWO, scope(f"b{attempt}", prefix)),
            return_exceptions=True,
        )
        assert sum(isinstance(result, RefusedError) for result in results) >= 1
