"""Many keys' versions in few requests: on real servers the same answers as key by key, and never a guess."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from tests.library.store.conftest import OpenBucket
from tests.stub.server import error, start_stub
from tests.testbed.services import S3Server

from s3gc.exceptions import ListingError
from s3gc.store.bucket import Bucket
from s3gc.store.keys import key_bytes
from s3gc.store.neighbours import VersionsOfMany
from s3gc.store.versions import VersionsPage

KEYS = [f"media/{folder}/{number:03d}-é+%20 x.bin" for folder in ("a", "b+") for number in range(40)]


async def _fill(bucket: Bucket, keys: Sequence[str], rng: random.Random) -> None:
    """Objects with one to three versions, some of them below a marker, some with a version above it again."""

    async def one(key: str) -> None:
        for number in range(rng.choice([1, 1, 1, 2, 3])):
            await bucket.put(key, b"%d" % number, size=len(str(number)))
        if rng.random() < 0.5:
            await bucket.delete(key)
            if rng.random() < 0.2:
                await bucket.put(key, b"again", size=5)

    await asyncio.gather(*(one(key) for key in keys))


async def test_many_keys_have_the_versions_that_each_has_alone(s3: S3Server, open_bucket: OpenBucket) -> None:
    bucket = await open_bucket(s3, versioning=True)
    rng = random.Random(5)
    await _fill(bucket, KEYS, rng)
    alone = {key: await bucket.versions(key) for key in KEYS}
    many = VersionsOfMany(bucket)
    bucket.requests.clear()
    for keys in (KEYS, rng.sample(KEYS, 30), [key for key in KEYS if rng.random() < 0.5], KEYS[:9]):
        asked = sorted([*keys, *(key + "~never" for key in keys[::3])], key=key_bytes)
        found = await many.of(asked)
        assert found == {key: alone[key] for key in found}
        if s3.name == "minio":
            assert set(found) == set(keys)
    assert bucket.requests["ListObjectVersions"] <= 8


@pytest.mark.parametrize("limit", [2, 3, 7, 50])
async def test_a_key_whose_versions_go_on_in_the_next_page_is_not_shown(
    limit: int, s3: S3Server, open_bucket: OpenBucket
) -> None:
    bucket = await open_bucket(s3, versioning=True)
    await _fill(bucket, KEYS[:12], random.Random(3))
    page = await bucket.versions_page(KEYS[:12], limit=limit)
    for key, versions in page.versions.items():
        assert versions == await bucket.versions(key)
    assert len(page.versions) <= page.covered <= 12
    assert page.covered < 12 or limit == 50


ENTRY = (
    "<{kind}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
    "<LastModified>2026-07-01T10:20:30.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></{kind}>"
)


def _document(
    *entries: tuple[str, str, str, bool], truncated: bool = False, name: str = "stub-bucket", extra: str = ""
) -> bytes:
    rendered = "".join(
        ENTRY.format(kind=kind, key=key, id=version, latest=str(latest).lower())
        for kind, key, version, latest in entries
    )
    flag = f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
    head = '<?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return f"{head}<Name>{name}</Name>{flag}{extra}{rendered}</ListVersionsResult>".encode()


def _two(key: str) -> list[tuple[str, str, str, bool]]:
    return [("DeleteMarker", key, f"m-{key}", True), ("Version", key, f"v-{key}", False)]


async def _page(open_bucket: OpenBucket, body: bytes, keys: Sequence[str]) -> VersionsPage:
    async with start_stub([]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(200, body=body)
        return await bucket.versions_page(keys)


async def test_what_a_page_shows_and_how_far_it_goes(open_bucket: OpenBucket) -> None:
    keys = ["a", "b", "c"]
    whole = _document(*_two("a"), *_two("aa"), *_two("c"))
    page = await _page(open_bucket, whole, keys)
    assert (set(page.versions), page.covered, page.entries) == ({"a", "c"}, 3, 6)
    assert [v.version_id for v in page.versions["a"]] == ["m-a", "v-a"]
    cut = await _page(open_bucket, _document(*_two("a"), *_two("b"), truncated=True), keys)
    assert (set(cut.versions), cut.covered) == ({"a"}, 1)  # more of b may be in the next page
    beyond = await _page(open_bucket, _document(*_two("a"), *_two("bb"), truncated=True), keys)
    assert (set(beyond.versions), beyond.covered) == ({"a"}, 2)
    for body in (_document(*_two("b"), *_two("a")), _document(), _document(*_two("B"), *_two("a"))):
        nothing = await _page(open_bucket, body, keys)
        assert (nothing.versions, nothing.covered) == ({}, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>login</body></html>",
        _document(*_two("a"), name="another"),
        _document(*_two("a")).replace(b"<IsTruncated>false</IsTruncated>", b""),
        _document(*_two("a"))[:-1],
        _document(*_two("a"))[:-60],
        _document(*_two("a")).replace(b"<Key>a</Key>", b""),
        _document(*_two("a")).replace(b"2026-07-01T10:20:30.000Z", b"yesterday"),
        _document(*_two("a")).replace(b"<Size>1<", b"<Size>one<"),
    ],
)
async def test_a_page_that_does_not_prove_itself_is_an_error(body: bytes, open_bucket: OpenBucket) -> None:
    with pytest.raises(ListingError):
        await _page(open_bucket, body, ["a", "b"])
    async with start_stub([]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(200, body=body)
        with pytest.raises(ListingError):
            await bucket.versions("a")


async def test_entries_that_the_quick_way_declines_are_read_by_the_parser(open_bucket: OpenBucket) -> None:
    plain = _document(*_two("a"), *_two("b&amp;"))
    spaced = plain.replace(b"</DeleteMarker><Version>", b"</DeleteMarker>\n  <Version>")
    pages = [await _page(open_bucket, body, ["a", "b&"]) for body in (plain, spaced)]
    assert pages[0] == pages[1]
    assert set(pages[0].versions) == {"a", "b&"}


async def test_where_pages_are_refused_or_useless_they_stop_being_asked_for(open_bucket: OpenBucket) -> None:
    keys = [f"k{number:02d}" for number in range(20)]
    async with start_stub([]) as stub:
        for body, status in ((error("AccessDenied"), 403), (_document(), 200), (b"<html/>", 200)):
            bucket = await open_bucket(stub)
            stub.answer(status, body=body, times=10)
            many = VersionsOfMany(bucket)
            for _ in range(10):
                assert await many.of(keys) == {}
            assert bucket.requests["ListObjectVersions"] == 3
            stub._scripted.clear()


async def test_in_a_sparse_plan_pages_are_tried_ever_more_seldom(open_bucket: OpenBucket) -> None:
    keys = [f"k{number:02d}" for number in range(20)]
    async with start_stub([]) as stub:
        bucket = await open_bucket(stub)
        stub.answer(200, body=_document(*_two("k00"), *_two("k00x"), truncated=True), times=100)
        many = VersionsOfMany(bucket)
        shown = [bool(await many.of(keys)) for _ in range(100)]
        assert [number for number, was in enumerate(shown) if was] == [0, 3, 8, 17, 34, 67]
