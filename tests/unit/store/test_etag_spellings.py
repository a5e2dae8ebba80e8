"""An ETag is the same object's whether a store writes its quotes as entities, raw, or not at all."""

from __future__ import annotations

import pytest

from s3gc.store.listing import parse_page

ENTRY = (
    "<Contents><Key>k</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag>"
    "<Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
PAGE = (
    '<?xml version="1.0"?><ListBucketResult><Name>b</Name><Prefix/><MaxKeys>1000</MaxKeys>'
    "<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>{entry}</ListBucketResult>"
)


@pytest.mark.parametrize("etag", ["&quot;abc-2&quot;", "&#34;abc-2&#34;", '"abc-2"', "abc-2"])
def test_quotes_are_no_part_of_an_etag(etag: str) -> None:
    page = parse_page(PAGE.format(entry=ENTRY.format(etag=etag)).encode(), "b")
    assert page.columns.etags.to_pylist() == [b"abc-2"]
