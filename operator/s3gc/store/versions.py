"""The versions of keys: what lies directly below a delete marker decides whether a deletion stands.

Stores differ in three ways that would give a wrong "directly below": versitygw repeats an entry at each
page's boundary, some write all versions before all markers, and a prefix is not a key. So entries are kept
for exact keys only, each once, and put in order by what the store says of them.

Two questions are asked. `list_versions` is about one key and walks to its end. `versions_page` is about many
neighbouring keys at once: one page that begins at the first of them, of which only those count that the page
shows whole. It is an offer and never a refusal: whatever it does not show is asked for on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os.path import commonprefix

from s3gc.exceptions import ListingError
from s3gc.store.keys import key_bytes, quote_key, unquote_listed
from s3gc.store.listing import unescape
from s3gc.store.transport import Transport
from s3gc.store.types import ObjectVersion
from s3gc.store.wire import Request
from s3gc.store.xml import Element, parse_xml

__all__ = ["VersionsPage", "list_versions", "versions_page"]

#: A key with more versions than this many pages of 1000 is not walked to its end.
_MAX_PAGES = 1000
_LARGEST_KEY = 1024

#: One entry whatever its elements are; `<VersionId>` is none of the two.
_ENTRY = re.compile(rb"<(Version|DeleteMarker)>(?:[^<]++|<(?!/?(?:Version|DeleteMarker)>))*+</\1>")
_KEY = re.compile(rb"<Key>([^<]*+)</Key>")
_FIRST = re.compile(rb"<(?:Version|DeleteMarker)>")


@dataclass(frozen=True, slots=True)
class VersionsPage:
    """`versions`: of each key that the page shows whole, all its versions and markers, newest first. `covered`: how
    many of the keys asked for, from the first on, the page has passed. `entries`: how long it was.
    """

    versions: dict[str, list[ObjectVersion]] = field(default_factory=dict)
    covered: int = 0
    entries: int = 0


async def list_versions(transport: Transport, key: str) -> list[ObjectVersion]:
    """All versions of exactly `key`, newest first. Raises ListingError when the answer is not provably
    complete.
    """
    quote_key(key)  # refuses what no request could address
    wanted = key_bytes(key)
    found: dict[str, ObjectVersion] = {}
    markers: tuple[str, str] | None = None
    for _ in range(_MAX_PAGES):
        query = [("prefix", key), ("max-keys", "1000")]
        if markers is not None:
            query += [("key-marker", markers[0]), ("version-id-marker", markers[1])]
        page = await _ask(transport, query, key)
        is_past = False
        for entry in page.entries(transport):
            if entry.key != wanted:
                is_past = True  # `key` itself sorts before everything that merely begins with it
                continue
            version = entry.version(key, transport)
            found.setdefault(version.version_id, version)
        if not page.is_truncated or is_past:
            return _newest_first(list(found.values()))
        following = page.following
        if not following[0] or following == markers:
            raise _short(transport, key, "it is truncated and does not say where to go on")
        markers = following
    raise _short(transport, key, f"it has more than {_MAX_PAGES} pages")


async def versions_page(transport: Transport, keys: Sequence[str], limit: int) -> VersionsPage:
    """Ask for `limit` (at most 1000) entries from the first of `keys` on; `keys` are in key order.

    A key counts only if the page goes on beyond it, or is the last one; and a page that is not in key order shows
    nothing. Raises ListingError when the answer does not prove itself, StoreError when the store refuses it.
    """
    for key in keys:
        quote_key(key)
    # What they have in common, as a role may be allowed to list its own prefix only.
    prefix = commonprefix([keys[0], keys[-1]])  # noqa: RUF071  (characters are what a prefix is made of)
    start = _just_before(keys[0])
    if not start.startswith(prefix):
        start = ""  # the first key is the prefix itself, and so the first of the listing
    query = [("prefix", prefix), ("max-keys", str(limit)), ("key-marker", start)]
    query = [(name, value) for name, value in query if value]
    page = await _ask(transport, query, keys[0])
    wanted = {key_bytes(key): key for key in keys}
    found: dict[str, dict[str, ObjectVersion]] = {}
    previous, count = key_bytes(start), 0
    for entry in page.entries(transport):
        count += 1
        if entry.key < previous:
            return VersionsPage(entries=count)
        previous = entry.key
        key = wanted.get(entry.key, "")
        if key:
            version = entry.version(key, transport)
            found.setdefault(key, {}).setdefault(version.version_id, version)
    if page.is_truncated:
        found.pop(wanted.get(previous, ""), None)  # its versions may go on in a page that was not asked for
        covered = sum(raw < previous for raw in wanted)
    else:
        covered = len(wanted)
    whole = {key: _newest_first(list(versions.values())) for key, versions in found.items()}
    return VersionsPage(whole, covered if count else 0, count)


def _just_before(key: str) -> str:
    """A name from which a listing goes on to `key` without much in between; "" for the very beginning.

    Whether an object has that name, or how many lie between the two, changes only how useful the page is.
    """
    rest, last = key[:-1], ord(key[-1])
    before = chr(last - 1) if key[-1] >= "!" and last != 0xE000 else ""
    return rest + before if len((rest + before).encode()) <= _LARGEST_KEY else rest


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry as it stands in the document; it is read only if its key is wanted."""

    key: bytes
    raw: bytes | Element

    def version(self, key: str, transport: Transport) -> ObjectVersion:
        element = self.raw if isinstance(self.raw, Element) else _parse(transport, self.raw, key)
        return _version(element, key, transport)


@dataclass(frozen=True, slots=True)
class _Page:
    root: Element  # without entries where `section` has them
    section: bytes
    is_exact: bool

    @property
    def is_truncated(self) -> bool:
        return self.root.get("IsTruncated") == "true"

    @property
    def following(self) -> tuple[str, str]:
        key = self.root.get("NextKeyMarker").encode()
        return (unquote_listed(key) if self.is_exact else key).decode(), self.root.get("NextVersionIdMarker")

    def entries(self, transport: Transport) -> Iterator[_Entry]:
        for element in self.root.children:
            if element.name in ("Version", "DeleteMarker"):
                yield self._entry(transport, element.get("Key").encode(), element)
        for found in _ENTRY.finditer(self.section):
            raw = found.group()
            key = _KEY.search(raw)
            yield self._entry(transport, unescape(key.group(1)) if key else b"", raw)

    def _entry(self, transport: Transport, key: bytes, raw: bytes | Element) -> _Entry:
        if not key:
            raise _short(transport, "", "an entry has no Key")
        return _Entry(unquote_listed(key) if self.is_exact else key, raw)


async def _ask(transport: Transport, query: Sequence[tuple[str, str]], key: str) -> _Page:
    request = Request(
        "ListObjectVersions", "s3:ListBucketVersions", "GET",
        query=[("versions", ""), ("encoding-type", "url"), *query], key=key,
    )  # fmt: skip
    answer = await transport.call(request)
    rest, section = _cut(answer.body)
    root = _parse(transport, rest, "")
    if root.name != "ListVersionsResult" or root.get("Name") != transport.bucket:
        raise _short(transport, "", f"it is a <{root.name}> of {root.get('Name')!r}")
    if root.get("IsTruncated") not in ("true", "false"):
        raise _short(transport, "", "it does not say whether it is truncated")
    return _Page(root, section, root.get("EncodingType") == "url")


def _cut(body: bytes) -> tuple[bytes, bytes]:
    """The document without its entries, and the entries; the whole document and nothing where they do not follow
    each other without a gap.

    A full parser would cost as much as the store's own work for the page, and nine entries in ten are not wanted.
    """
    first = _FIRST.search(body)
    if first is None:
        return body, b""
    end = max(body.rfind(tag) + len(tag) for tag in (b"</Version>", b"</DeleteMarker>"))
    section = body[first.start() : end]
    if sum(len(found.group()) for found in _ENTRY.finditer(section)) != len(section):
        return body, b""
    return body[: first.start()] + body[end:], section


def _parse(transport: Transport, body: bytes, key: str) -> Element:
    try:
        return parse_xml(body)
    except ValueError as error:
        raise _short(transport, key, str(error)) from error


def _short(transport: Transport, key: str, why: str) -> ListingError:
    of = f" (key {key!r})" if key else ""
    return ListingError(
        f"The list of versions of bucket {transport.bucket!r}{of} is not whole: {why}.",
        details={"bucket": transport.bucket, "action": "s3:ListBucketVersions"},
    )


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
