"""HTTP headers of objects: which belong to an object, how they become an ObjectHead, and which can be sent
back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from s3gc.exceptions import StoreError
from s3gc.store.types import ObjectHead
from s3gc.store.wire import http_date

__all__ = ["condition", "describe", "unsendable"]

_KEPT = frozenset(
    {
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires",
        "x-amz-archive-status", "x-amz-missing-meta", "x-amz-restore", "x-amz-storage-class", "x-amz-tagging-count",
        "x-amz-website-redirect-location", "x-amz-mp-parts-count", "x-amz-replication-status", "x-amz-expiration",
    }
)  # fmt: skip
_KEPT_PREFIXES = ("x-amz-meta-", "x-amz-server-side-encryption", "x-amz-object-lock-", "x-amz-checksum-")
_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_UNSENDABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def condition(etag: str | None) -> dict[str, str]:
    """The If-Match header for an ETag without quotes; nothing for None."""
    return {} if etag is None else {"if-match": f'"{etag}"'}


def describe(key: str, headers: Mapping[str, str]) -> ObjectHead:
    """Read the answer to HEAD or GET. Raises StoreError when it does not say what the object is."""
    total = _RANGE.fullmatch(headers.get("content-range", ""))
    size = total.group(1) if total else headers.get("content-length", "")
    modified = http_date(headers.get("last-modified", "")) or datetime.min.replace(tzinfo=UTC)
    etag = headers.get("etag", "").removeprefix("W/").strip('"')
    if not size.isdigit() or not etag or modified.year == 1:
        raise StoreError(
            f"The answer about key {key!r} has no size, ETag or Last-Modified; it is not S3's. "
            "Look at the endpoint, and at what is between it and here.",
            details={"key": key},
        )
    kept = {
        name: value for name, value in headers.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }  # fmt: skip
    version = headers.get("x-amz-version-id")
    return ObjectHead(key, int(size), etag, modified, version or None, kept)


def unsendable(headers: Mapping[str, str]) -> str | None:
    """The first header whose value could not be sent back exactly (control characters, bytes that are not
    UTF-8).

    An object that has one cannot be restored as it was: it must be skipped, not deleted.
    """
    return next((name for name, value in headers.items() if _UNSENDABLE.search(value)), None)
