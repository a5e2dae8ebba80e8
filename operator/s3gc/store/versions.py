"""The versions of exactly one key: what lies directly below a delete marker decides whether a deletion
stands.

Stores differ in three ways that would give a wrong "directly below": versitygw repeats an entry at each
page's boundary, some write all versions before all markers, and a prefix is not a key. So entries are kept
for this key only, each once, and put in order by what the store says of them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from s3gc.exceptions import ListingError
from s3gc.store.keys import key_bytes, quote_key, unquote_listed
from s3gc.store.transport import Transport
from s3gc.store.types import ObjectVersion
from s3gc.store.wire import Request
from s3gc.store.xml import Element, parse_xml

__all__ = ["list_versions"]

#: A key with more versions than this many pages of 1000 is not walked to its end.
_MAX_PAGES = 1000


async def list_versions(transport: Transport, key: str) -> list[ObjectVersion]:
    """All versions of exactly `key`, newest first. Raises ListingError when the answer is not provably
    complete.
    """
    quote_key(key)  # refuses what no request could address
    found: dict[str, ObjectVersion] = {}
    markers: tuple[str, str] | None = None
    for _ in range(_MAX_PAGES):
        query = [("versions", ""), ("encoding-type", "url"), ("prefix", key), ("max-keys", "1000")]
        if markers is not None:
            query += [("key-marker", markers[0]), ("version-id-marker", markers[1])]
        request = Request("ListObjectVersions", "s3:ListBucketVersions", "GET", query=query, key=key)
        answer = await transport.call(request)
        root = _root(transport, answer.body)
        is_exact = root.get("EncodingType") == "url"
        is_past = False
        for entry in root.children:
            if entry.name not in ("Version", "DeleteMarker"):
                continue
            if _text(entry.get("Key"), is_exact) != key_bytes(key):
                is_past = True  # `key` itself sorts before everything that merely begins with it
                continue
            version = _version(entry, key, transport)
            found.setdefault(version.version_id, version)
        if root.get("IsTruncated") == "false" or is_past:
            return _newest_first(list(found.values()))
        following = (_text(root.get("NextKeyMarker"), is_exact).decode(), root.get("NextVersionIdMarker"))
        if not following[0] or following == markers:
            raise _short(transport, key, "it is truncated and does not say where to go on")
        markers = following
    raise _short(transport, key, f"it has more than {_MAX_PAGES} pages")


def _root(transport: Transport, body: bytes) -> Element:
    try:
        root = parse_xml(body)
    except ValueError as error:
        raise _short(transport, "", str(error)) from error
    if root.name != "ListVersionsResult" or root.get("Name") != transport.bucket:
        raise _short(transport, "", f"it is a <{root.name}> of {root.get('Name')!r}")
    if root.get("IsTruncated") not in ("true", "false"):
        raise _short(transport, "", "it does not say whether it is truncated")
    return root


def _short(transport: Transport, key: str, why: str) -> ListingError:
    of = f" (key {key!r})" if key else ""
    return ListingError(
        f"The list of versions of bucket {transport.bucket!r}{of} is not whole: {why}.",
        details={"bucket": transport.bucket, "action": "s3:ListBucketVersions"},
    )


def _text(value: str, is_exact: bool) -> bytes:
    return unquote_listed(value.encode()) if is_exact else value.encode()


def _version(entry: Element, key: str, transport: Transport) -> ObjectVersion:
    try:
        modified = datetime.fromisoformat(entry.get("LastModified"))
        size = int(entry.get("Size") or 0)
    except ValueError as error:
        raise _short(transport, key, str(error)) from error
    return ObjectVersion(
        key,
        entry.get("VersionId") or "null",
        entry.get("IsLatest") == "true",
        entry.name == "DeleteMarker",
        modified.astimezone(UTC) if modified.tzinfo else modified.replace(tzinfo=UTC),
        entry.get("ETag").strip('"'),
        size,
    )


def _newest_first(versions: list[ObjectVersion]) -> list[ObjectVersion]:
    """The order of the document where times agree with it (they may be equal: whole seconds on some stores);
    else by time, the latest first whatever its time.
    """
    latest = [version for version in versions if version.is_latest]
    rest = [version for version in versions if not version.is_latest]
    times = [version.last_modified for version in rest]
    if times != sorted(times, reverse=True):
        rest.sort(key=lambda version: version.last_modified, reverse=True)
    return latest + rest
