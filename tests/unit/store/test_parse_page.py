"""One page, any way a store may write it: parsed alike, or refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stub.server import Stub

from s3gc.exceptions import ListingError
from s3gc.store.entries import cut_entries
from s3gc.store.keys import key_bytes
from s3gc.store.listing import check_order, parse_page, to_rows

HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
)
AWS = (
    "<Contents><Key>{key}</Key><LastModified>2026-07-01T10:20:30.000Z</LastModified><ETag>&quot;abc&quot;</ETag>"
    "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size>"
    "<StorageClass>STANDARD_IA</StorageClass></Contents>"
)
MINIO = (
    "<Contents><Key>{key}</Key><LastModified>2026-07-01T10:20:30.000Z</LastModified><ETag>&#34;abc&#34;</ETag>"
    "<Size>7</Size><StorageClass>STANDARD_IA</StorageClass></Contents>"
)
MOTO = MINIO.replace("&#34;", '"')
CEPH = (
    "<Contents><Key>{key}</Key><LastModified>2026-07-01T10:20:30.000Z</LastModified><ETag>&quot;abc&quot;</ETag>"
    "<Size>7</Size><StorageClass>STANDARD_IA</StorageClass><Owner><ID>o</ID><DisplayName>n</DisplayName></Owner>"
    "<Type>Normal</Type></Contents>"
)
OTHER = (
    '<Contents><Owner><ID/></Owner><Size>7</Size><ETag>"abc"</ETag>\n<StorageClass>STANDARD_IA</StorageClass>'
    "<LastModified>2026-07-01T10:20:30Z</LastModified><Key>{key}</Key></Contents>"
)


def page(
    entries: str, count: int, *, encoding: bool = True, extra: str = "<IsTruncated>false</IsTruncated>"
) -> bytes:
    echo = "<EncodingType>url</EncodingType>" if encoding else ""
    return (
        f"{HEAD}<Name>b</Name>{echo}<KeyCount>{count}</KeyCount>{extra}{entries}</ListBucketResult>".encode()
    )


@pytest.mark.parametrize(
    "form", [AWS, MINIO, MOTO, CEPH, OTHER], ids=["aws", "minio", "moto", "ceph", "another order"]
)
@pytest.mark.parametrize("encoding", [True, False])
def test_every_stores_way_of_writing_an_entry_gives_the_same_row(form: str, encoding: bool) -> None:
    keys = ["a%2Bb+c", "d%0Ae", "f"] if encoding else ["a+b c", "d&#xA;e", "f"]
    parsed = parse_page(page("".join(form.format(key=key) for key in keys), 3, encoding=encoding), "b")
    assert parsed.keys.to_pylist() == [b"a+b c", b"d\ne", b"f"]
    assert parsed.is_exact is encoding
    assert to_rows(parsed, 3).to_pylist()[1] == {
        "key": "d\ne", "size": 7, "etag": "abc", "last_modified": datetime(2026, 7, 1, 10, 20, 30, tzinfo=UTC),
        "storage_class": "STANDARD_IA",
    }  # fmt: skip


def test_one_entry_in_another_order_among_many_is_not_lost() -> None:
    entries = MINIO.format(key="a") + OTHER.format(key="b") + MINIO.format(key="c")
    assert parse_page(page(entries, 3), "b").keys.to_pylist() == [b"a", b"b", b"c"]


def test_a_page_where_some_objects_have_checksums_and_others_not_is_one_page() -> None:
    plain = AWS.replace(
        "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>", ""
    )
    other = AWS.replace("CRC64NVME", "SHA256").replace("FULL_OBJECT", "COMPOSITE")
    for forms in ([AWS, plain, other], [plain, AWS, plain], [other, AWS, AWS], [plain, plain, other]):
        entries = "".join(form.format(key=key) for form, key in zip(forms, "abc", strict=True))
        rows = to_rows(parse_page(page(entries, 3), "b"), 3)
        assert rows.column("key").to_pylist() == ["a", "b", "c"]
        assert rows.column("size").to_pylist() == [7, 7, 7]
        assert cut_entries(page(entries, 3))[0] is not None  # and it is read the quick way


@pytest.mark.parametrize(
    "value",
    ["<![CDATA[a/b]]>", "a<!-- x -->b", "a<x/>b", "a<?pi?>b", "a<Key>b</Key>", "a</Key><Key>b"],
)
@pytest.mark.parametrize("where", ["Key", "ETag", "Size", "StorageClass", "LastModified", "ChecksumType"])
def test_markup_inside_a_value_is_never_read_the_quick_way(value: str, where: str) -> None:
    odd = re.sub(f"<{where}>[^<]*</{where}>", f"<{where}>{value}</{where}>", AWS)
    body = page(AWS.format(key="0") + odd.format(key="1") + AWS.format(key="2"), 3)
    columns, _ = cut_entries(body)
    # A checksum is taken out as a whole or not at all; nothing of it is ever read.
    assert columns is None


WRITINGS = st.sampled_from([AWS, MINIO, MOTO, CEPH, OTHER, MINIO.replace("&#34;", "&quot;")])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(WRITINGS, min_size=1, max_size=4),
    st.booleans(),
    st.lists(
        st.tuples(st.integers(0, 4000), st.sampled_from([b"", b"<", b">", b"&", b"/", b'"', b"a", b"</Key>"]))
    ),
)
def test_the_quick_way_and_the_parser_agree_on_whatever_is_damaged(
    forms: list[str], encoding: bool, damage: list[tuple[int, bytes]]
) -> None:
    entries = "".join(form.format(key=f"k{number}") for number, form in enumerate(forms))
    body = page(entries, len(forms), encoding=encoding)
    for place, change in damage[:2]:
        at = place % len(body)
        body = body[:at] + change + body[at + 1 :]
    quick, slow = outcome(body), outcome(body, quick=False)
    # The parser also refuses text that is no XML (a bare `&`); where both read a page, they read the same.
    assert quick == slow or slow is None


def outcome(body: bytes, *, quick: bool = True) -> list[dict[str, Any]] | None:
    with pytest.MonkeyPatch.context() as patch:
        if not quick:
            patch.setattr("s3gc.store.listing.cut_entries", lambda body: (None, body))
        try:
            parsed = parse_page(body, "b")
            rows: list[dict[str, Any]] = to_rows(parsed, len(parsed.keys)).to_pylist()
            return rows
        except ListingError:
            return None


def test_an_entry_without_storage_class_is_standard() -> None:
    entry = MINIO.format(key="a").replace("<StorageClass>STANDARD_IA</StorageClass>", "")
    assert to_rows(parse_page(page(entry, 1), "b"), 1).column("storage_class").to_pylist() == ["STANDARD"]


def test_an_empty_last_page_is_complete() -> None:
    parsed = parse_page(page("", 0), "b")
    assert len(parsed.keys) == 0
    assert parsed.token is None
    assert to_rows(parsed, 0).num_rows == 0


def test_times_without_zone_and_with_nanoseconds_are_read() -> None:
    entries = MINIO.format(key="a").replace("30.000Z", "30") + MINIO.format(key="b").replace(
        "30.000Z", "30.123456Z"
    )
    times = to_rows(parse_page(page(entries, 2), "b"), 2).column("last_modified").to_pylist()
    assert [time.isoformat() for time in times] == [
        "2026-07-01T10:20:30+00:00",
        "2026-07-01T10:20:30.123456+00:00",
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not a whole answer"),
        (b"<!DOCTYPE html><html><body>login</body></html>", "not a whole answer"),
        (b"<html><body>login</body></html>", "not a whole answer"),
        (b'<?xml version="1.0"?><Error><Code>InternalError</Code></Error>', "not a whole answer"),
        (page(MINIO.format(key="a"), 1)[:-1], "not a whole answer"),
        (page(MINIO.format(key="a"), 1)[:-120], "not a whole answer"),
        (page(MINIO.format(key="a"), 2), "KeyCount"),
        (page(MINIO.format(key="a"), 1).replace(b"<KeyCount>1</KeyCount>", b""), "KeyCount"),
        (page(MINIO.format(key="a"), 1).replace(b"<Name>b<", b"<Name>c<"), "is of bucket 'c'"),
        (page("", 0, extra=""), "whether it is truncated"),
        (page("", 0, extra="<IsTruncated>true</IsTruncated>"), "no NextContinuationToken"),
        (
            page(
                "",
                0,
                extra="<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            ),
            "not truncated",
        ),
        (page(MINIO.format(key="a").replace("<Size>7</Size>", ""), 1), "no Size"),
        (page(MINIO.format(key=""), 1), "no Key|not in order"),
    ],
)
def test_a_page_that_does_not_prove_itself_is_an_error(body: bytes, says: str) -> None:
    with pytest.raises(ListingError, match=says):
        check_order(parse_page(body, "b").keys, b"", is_exact=True)


@pytest.mark.parametrize("change", [("<Size>7<", "<Size>x<"), ("2026-07-01T10:20:30.000Z", "yesterday")])
def test_a_size_or_time_that_cannot_be_read_is_an_error(change: tuple[str, str]) -> None:
    with pytest.raises(ListingError, match="cannot be read"):
        to_rows(parse_page(page(MINIO.format(key="a").replace(*change), 1), "b"), 1)


def test_cutting_a_page_anywhere_never_gives_a_page() -> None:
    body = page("".join(MINIO.format(key=f"k{number}") for number in range(5)), 5)
    for end in range(len(body)):
        with pytest.raises(ListingError):
            parse_page(body[:end], "b")


@settings(max_examples=200, deadline=None)
@given(st.sets(st.binary(min_size=1, max_size=12), min_size=1, max_size=30))
def test_keys_of_any_bytes_come_through_a_url_encoded_page_exactly(keys: set[bytes]) -> None:
    stub = Stub(sorted(keys))
    stub.render()
    parsed = parse_page(stub._list({"list-type": "2", "encoding-type": "url"}, None), stub.bucket)
    assert parsed.keys.to_pylist() == sorted(keys)
    assert [key_bytes(text) for text in to_rows(parsed, len(keys)).column("key").to_pylist()] == sorted(keys)
    check_order(parsed.keys, b"", is_exact=True)


def column(*keys: bytes) -> pa.BinaryArray:
    return pa.array(keys, pa.binary())


def test_order_is_proven_by_bytes_and_replaced_keys_are_left_out_where_the_store_replaces() -> None:
    emoji, wide = "\U0001f600".encode(), "！".encode()
    assert check_order(column(wide, emoji), b"", is_exact=True) == emoji  # not the order of UTF-16
    for keys in ([b"b", b"a"], [b"a", b"a"]):
        with pytest.raises(ListingError, match="not in order"):
            check_order(column(*keys), b"", is_exact=True)
    with pytest.raises(ListingError, match="comes after 'm'"):
        check_order(column(b"a"), b"m", is_exact=True)
    mark = "a\ufffdb".encode()
    assert check_order(column(mark, mark, b"a1"), b"", is_exact=False) == b"a1"
    with pytest.raises(ListingError):
        check_order(column(mark, mark, b"a1"), b"", is_exact=True)
