"""One page of ListObjectsV2: from bytes to columns, and the proof that it is whole.

A listing that ends early is the worst input a garbage collector can get from its own store: what is missing
is not deleted, but the vault's own sentinel, a claim, or "this prefix is empty" would be concluded from it.
So each page must prove itself (facts: an empty or HTML 200, a page cut short, a token that is not there are
all taken for a complete listing by common clients): the whole document, this bucket's name, `IsTruncated`
present, `KeyCount` equal to what is there, a token exactly when truncated, keys strictly increasing in UTF-8
order within and across pages.

Speed: `entries` cuts a page of the usual kind into columns at once, half a microsecond a key; any other page is read
by expat. Times and sizes are cast column by column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.parsers import expat

import pyarrow as pa
import pyarrow.compute as pc

from s3gc.exceptions import ListingError
from s3gc.store.entries import ELEMENTS, Columns, cut_entries, data_of
from s3gc.store.keys import INVALID_UTF8, key_text, unquote_listed

__all__ = [
    "OBJECTS_SCHEMA",
    "ListingPage",
    "Page",
    "check_order",
    "has_mark",
    "parse_page",
    "to_rows",
    "unescape",
]

OBJECTS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("storage_class", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class ListingPage:
    """Up to 1000 objects, in key order. `date` is the server's own time of the answer (UTC), `last_key` the
    last key of the page ("" for an empty one). `is_exact` is False where the store does not encode keys, so
    that a key with U+FFFD may stand for another one (or for several).
    """

    rows: pa.RecordBatch
    date: datetime
    last_key: str
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """A page as parsed and proven whole: `columns` with the keys decoded, the others as in the document; common
    `prefixes` decoded. `token` is None on the last page.
    """

    columns: Columns
    prefixes: pa.BinaryArray
    token: str | None
    is_exact: bool

    @property
    def keys(self) -> pa.BinaryArray:
        return self.columns.keys


_ENTITY = re.compile(rb"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_MARK = "\ufffd".encode()
_ESCAPE = INVALID_UTF8.encode()


def parse_page(body: bytes, bucket: str) -> Page:
    """Parse one answer to ListObjectsV2 and prove it whole. Raises ListingError with what is wrong."""
    columns, rest = cut_entries(body)
    document = _Document()
    try:
        document.parse(rest)
    except (expat.ExpatError, ValueError) as error:
        raise ListingError(
            f"The listing of bucket {bucket!r} is not a whole answer ({len(body)} bytes: {error}); nothing is "
            "concluded."
        ) from error
    is_exact = document.values.get("EncodingType") == "url"
    if columns is not None:
        columns = replace(columns, keys=_decode(columns.keys, is_exact))
    else:
        if is_exact:
            document.columns[0] = [unquote_listed(raw) for raw in document.columns[0]]
        columns = Columns.of(document.columns)
    prefixes = [unquote_listed(raw) for raw in document.prefixes] if is_exact else document.prefixes
    token = _prove(document.values, len(columns.keys) + len(prefixes), bucket)
    return Page(columns, pa.array(prefixes, pa.binary()), token, is_exact)


def to_rows(page: Page, count: int) -> pa.RecordBatch:
    """The first `count` objects of `page` as columns. Raises ListingError for a value that is not a time or size."""
    if not count:
        return pa.RecordBatch.from_pylist([], schema=OBJECTS_SCHEMA)
    read = page.columns
    try:
        classes = read.classes[:count].cast(pa.string())
        if pc.any(unnamed := pc.equal(classes, "")).as_py():
            classes = pc.if_else(unnamed, "STANDARD", classes)
        columns = [
            _key_column(read.keys[:count]),
            read.sizes[:count].view(pa.string()).cast(pa.int64()),
            read.etags[:count].cast(pa.string()),
            _time_column(read.modified[:count].cast(pa.string())),
            classes,
        ]
    except (pa.ArrowInvalid, ValueError) as error:
        raise ListingError(f"The listing has a time or a size that cannot be read: {error}.") from error
    return pa.RecordBatch.from_arrays(columns, schema=OBJECTS_SCHEMA)


def check_order(keys: pa.BinaryArray, previous: bytes, *, is_exact: bool) -> bytes:
    """Prove that `keys` are strictly increasing and all after `previous`; return the last one to compare with
    next.

    Where the store replaces characters by U+FFFD (`is_exact` False) the replaced keys are out of place by
    nature and are left out of the comparison. Raises ListingError: a repeated or unsorted key means that
    others are missing, or that the store orders keys otherwise (directory buckets), so that ranges would not
    add up to the whole.
    """
    if not is_exact:
        keys = keys.filter(pc.invert(pc.match_substring(keys, "\ufffd")))
    if not len(keys):
        return previous
    last: bytes = keys[-1].as_py()
    if keys[0].as_py() > previous and pc.less(keys[:-1], keys[1:]).true_count == len(keys) - 1:
        return last
    before = previous
    for key in keys.to_pylist():
        if key <= before:
            break
        before = key
    what = "is listed twice" if key == before else f"comes after {key_text(before)!r}"
    raise ListingError(
        f"The listing is not in order: {key_text(key)!r} {what}. It cannot be proven complete; nothing is concluded. "
        "(A directory bucket lists without order and cannot be collected.)"
    )


def has_mark(key: bytes) -> bool:
    """Whether `key` holds U+FFFD, the character that stands for what could not be shown."""
    return _MARK in key


def unescape(raw: bytes) -> bytes:
    """Undo XML's entities and character references."""

    def replace(match: re.Match[bytes]) -> bytes:
        decimal, hexadecimal, name = match.groups()
        if name:
            return _NAMED[name]
        code = int(decimal) if decimal else int(hexadecimal, 16)
        return chr(code).encode() if code < 0x110000 and not 0xD800 <= code < 0xE000 else _MARK

    return _ENTITY.sub(replace, raw) if b"&" in raw else raw


def _decode(column: pa.BinaryArray, is_exact: bool) -> pa.BinaryArray:
    """Undo the encoding of all keys of a page at once; one at a time only where a newline could split one."""
    data = data_of(column)
    has_escapes = is_exact and (b"%" in data or b"+" in data)
    if not has_escapes and b"&" not in data:
        return column
    raws = column.to_pylist()
    if b"&" in data:
        raws = [unescape(raw) for raw in raws]
    if has_escapes:
        joined = b"\n".join(raws)
        if b"%0a" in joined.lower() or joined.count(b"\n") != len(raws) - 1:
            raws = [unquote_listed(raw) for raw in raws]
        else:
            raws = unquote_listed(joined).split(b"\n")
    return pa.array(raws, pa.binary())


def _prove(values: dict[str, str], entries: int, bucket: str) -> str | None:
    def wrong(what: str) -> ListingError:
        return ListingError(f"The listing of bucket {bucket!r} {what}; it is not provably complete.")

    if values.get("Name") != bucket:
        raise wrong(f"says that it is of bucket {values.get('Name')!r}")
    if values.get("IsTruncated") not in ("true", "false"):
        raise wrong("does not say whether it is truncated")
    if values.get("KeyCount", "") != str(entries):
        raise wrong(f"has {entries} entries and says KeyCount {values.get('KeyCount')!r}")
    token = values.get("NextContinuationToken") or None
    if values["IsTruncated"] == "true" and token is None:
        raise wrong("is truncated and has no NextContinuationToken")
    if values["IsTruncated"] == "false" and token is not None:
        raise wrong("is not truncated and has a NextContinuationToken")
    return token


def _key_column(keys: pa.BinaryArray) -> pa.StringArray:
    try:
        column = keys.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([key_text(key) for key in keys.to_pylist()], pa.string())
    if _ESCAPE in data_of(keys):
        return pa.array([key_text(key) for key in keys.to_pylist()], pa.string())
    return column


def _time_column(texts: pa.StringArray) -> pa.TimestampArray:
    kind = pa.timestamp("us", tz="UTC")
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:  # no zone, or more digits than microseconds
        times = [datetime.fromisoformat(text) for text in texts.to_pylist()]
        return pa.array([t if t.tzinfo else t.replace(tzinfo=UTC) for t in times], kind)


class _Document:
    """What expat finds: the page's own values, common prefixes, and the entries where the regexp did not do."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.prefixes: list[bytes] = []
        self.columns: list[list[bytes]] = [[], [], [], [], []]
        self._path: list[str] = []
        self._text: list[str] = []
        self._entry: dict[str, str] = {}

    def parse(self, document: bytes) -> None:
        parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = self._doctype
        parser.Parse(document, True)

    def _doctype(self, *_: object) -> None:
        raise ValueError("it has a document type, as HTML has")

    def _start(self, name: str, _attributes: object) -> None:
        name = name.rpartition(":")[2]
        if not self._path and name != "ListBucketResult":
            raise ValueError(f"the document is a <{name}>")
        self._path.append(name)
        self._text.clear()
        if name == "Contents":
            self._entry = {}

    def _end(self, _name: str) -> None:
        name = self._path.pop()
        depth = len(self._path)
        text = "".join(self._text)
        self._text.clear()
        if depth == 1 and name == "Contents":
            self._add_entry()
        elif depth == 2 and self._path[1] == "Contents":
            self._entry[name] = text
        elif depth == 2 and self._path[1] == "CommonPrefixes" and name == "Prefix":
            self.prefixes.append(text.encode())
        elif depth == 1:
            self.values[name] = text

    def _add_entry(self) -> None:
        entry = self._entry
        for name in ("Key", "LastModified", "Size"):
            if not entry.get(name):
                raise ValueError(f"an entry has no {name}")
        entry["ETag"] = entry.get("ETag", "").strip('"')
        for column, name in zip(self.columns, ELEMENTS, strict=True):
            column.append(entry.get(name, "").encode())
