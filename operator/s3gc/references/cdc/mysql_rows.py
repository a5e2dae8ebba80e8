"""Rows of the binary log as the values that a SELECT of the same columns would have shown.

The log holds bytes by position: no names, no character sets, no signs of numbers, no words of an ENUM (what it may hold
of these, with binlog_row_metadata=FULL, is not relied on). All of that comes from the catalog, which the fingerprint
and every DDL statement in the log watch over. So a column is found by its ordinal, its kind in the log is compared with
its declared type, and its bytes are decoded here; a type whose text cannot be made exactly is refused beforehand.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymysqlreplication.constants import FIELD_TYPE
from pymysqlreplication.json_binary import parse_json

from s3gc.exceptions import CDCError
from s3gc.references.sources.mysql_catalog import Column
from s3gc.references.sources.mysql_plan import Item
from s3gc.references.sources.mysql_snapshot import first_column
from s3gc.references.sources.mysql_values import decoded, spelled
from s3gc.references.sources.templates import empty_prefix_problem, is_empty_prefix
from s3gc.references.types import PrefixReference

__all__ = ["RAW", "LoggedColumn", "WatchedTable", "words_of"]

#: No codec has this name, so the reader leaves the bytes of a text as they are.
RAW = "s3gc-raw"

#: MySQL's character sets, as Python calls them. Others cannot be decoded here.
_CODECS: Mapping[str, str] = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "utf-8",
    "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
    "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7",
    "hebrew": "iso8859-8", "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257",
    "cp850": "cp850", "cp852": "cp852", "cp866": "cp866", "koi8r": "koi8-r", "koi8u": "koi8-u",
    "big5": "big5", "gbk": "gbk", "gb2312": "gb2312", "gb18030": "gb18030", "euckr": "euc-kr",
    "sjis": "shift-jis", "cp932": "cp932", "ujis": "euc-jp", "eucjpms": "euc-jp", "tis620": "tis-620",
}  # fmt: skip

_INTEGERS = {
    "tinyint": FIELD_TYPE.TINY,
    "smallint": FIELD_TYPE.SHORT,
    "mediumint": FIELD_TYPE.INT24,
    "int": FIELD_TYPE.LONG,
    "bigint": FIELD_TYPE.LONGLONG,
}
_STRINGS = frozenset({FIELD_TYPE.STRING, FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING})
_KINDS: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("char", "varchar", "binary", "varbinary", "uuid"), _STRINGS),
    **dict.fromkeys(
        ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob"),
        frozenset({FIELD_TYPE.BLOB}),
    ),
    "json": frozenset({FIELD_TYPE.JSON, FIELD_TYPE.BLOB}),
    "enum": frozenset({FIELD_TYPE.ENUM}),
    "set": frozenset({FIELD_TYPE.SET}),
    **{name: frozenset({kind}) for name, kind in _INTEGERS.items()},
    "decimal": frozenset({FIELD_TYPE.NEWDECIMAL}),
}


@dataclass(frozen=True, slots=True)
class LoggedColumn:
    """A column of a watched table as the log has it. `place` counts from 0."""

    column: Column
    place: int
    default: str | None  # a literal value that an INSERT may leave out, None when there is none
    has_expression_default: bool = False
    is_generated: bool = False

    @property
    def obstacle(self) -> str:
        """Why its bytes cannot be turned into what a SELECT shows, or ""."""
        column = self.column
        if column.type not in _KINDS:
            return f"is of type {column.type}, whose text is made by the server and is not in its binary log"
        if "compressed" in column.full_type.lower():
            return "is a COMPRESSED column, which the reader of the binary log does not know"
        if column.is_text and column.charset not in ("", "latin1") and column.charset not in _CODECS:
            return f"has the character set {column.charset}, which is not decoded here"
        return ""

    def prepare(self, logged: Any) -> str:
        """Tell the reader how to take the bytes of `logged`, its column of a table map; returns what does not fit."""
        if logged.type not in _KINDS[self.column.type]:
            return f"{self.column.name} is {self.column.type} in the catalog, and of kind {logged.type} in the log"
        logged.character_set_name = RAW
        logged.unsigned = "unsigned" in self.column.full_type
        if logged.type == FIELD_TYPE.ENUM:
            logged.enum_values = ["", *words_of(self.column.full_type)]
        elif logged.type == FIELD_TYPE.SET:
            logged.set_values = words_of(self.column.full_type)
        elif logged.type == FIELD_TYPE.JSON:
            logged.type = FIELD_TYPE.BLOB  # as it is: see `_json`
        return ""

    def values(self, logged: Any) -> tuple[str | bytes, ...]:
        """Return every value that a SELECT could have shown for this one, which is not NULL."""
        column = self.column
        if isinstance(logged, int):
            text = str(logged)
            if "zerofill" in column.full_type:
                return (text, text.zfill(_width(column.full_type)))
            return (text,)
        if isinstance(logged, (set, frozenset)):
            return (",".join(word for word in words_of(column.full_type) if word in logged),)
        if column.type == "enum":
            return (str(logged),)
        if logged == "":
            logged = b""  # of nothing Python asks no codec, not even one that is not there
        if not isinstance(logged, bytes):
            return (format(logged, "f"),)  # a decimal
        if column.type == "uuid":
            return _uuids(logged)
        if column.is_binary:
            width = _width(column.full_type) if column.type == "binary" else 0
            return decoded(column, logged.ljust(width, b"\0"))
        if column.type == "json" and not column.charset:
            return (_json(logged),)
        return self._text(logged)

    def _text(self, data: bytes) -> tuple[str | bytes, ...]:
        if self.column.charset == "latin1":
            text = "".join(_LATIN1[byte] for byte in data)
            return decoded(self.column, text)
        try:
            return decoded(self.column, data.decode(_CODECS.get(self.column.charset, "utf-8")))
        except UnicodeDecodeError:
            # Not what the catalog says: every reading of the bytes, rather than none.
            return (data,)


@dataclass(frozen=True, slots=True)
class WatchedTable:
    """One table whose rows are followed, with what is declared of it."""

    schema: str
    name: str
    columns: Mapping[str, LoggedColumn]  # those that an item reads
    items: tuple[Item, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def unfit_for_partial_images(self) -> str:
        """Why a row image without all columns (MINIMAL, NOBLOB) would not be enough, or ""."""
        for item in self.items:
            if item.template is not None:
                return f"{item.spec.label} is composed of columns, and a change of one leaves the others out"
        for logged in self.columns.values():
            if logged.has_expression_default:
                return f"{self.label}.{logged.column.name} has an expression for a default, which an INSERT leaves out"
            if logged.is_generated:
                return f"{self.label}.{logged.column.name} is generated, and a row image may leave it out"
        return ""

    def prepare(self, table_map: Any) -> None:
        """Make the reader's columns of `table_map` fit. Raises CDCError when the log and the catalog disagree."""
        for logged in self.columns.values():
            if logged.place >= len(table_map.columns):
                wrong = f"{logged.column.name} is column {logged.place + 1}, and a row has {len(table_map.columns)}"
            else:
                wrong = logged.prepare(table_map.columns[logged.place])
            if wrong:
                raise CDCError(
                    f"{self.label}: what the binary log holds is not what the catalog says ({wrong}); nothing is "
                    "concluded from it"
                )
        read = {logged.place for logged in self.columns.values()}
        for place, column in enumerate(table_map.columns):
            column.name = str(place)
            if place not in read:
                column.character_set_name = RAW  # never decoded, so never an error

    def values(
        self, row: Mapping[str, Any], present: bytes, *, inserted: bool
    ) -> list[tuple[int, list[str | bytes]]]:
        """Return (index of the item, values) of a row as it is after its change, without NULLs.

        `present` is the bitmap of the columns that the image has. What an UPDATE leaves out did not change: it is in
        the scan, or came with an earlier image. What an INSERT leaves out has its default, which counts as written.
        Raises CDCError for an image that is not enough, and for a template that would reference everything.
        """
        found: list[tuple[int, list[str | bytes]]] = []
        for item in self.items:
            names = (
                [column.name for column in item.parts] if item.template is not None else [self._name(item)]
            )
            readings: list[tuple[str | bytes | None, ...]] = []
            is_unchanged = False
            for name in names:
                logged = self.columns[name]
                is_there = (
                    logged.place // 8 < len(present) and present[logged.place // 8] >> logged.place % 8 & 1
                )
                if not is_there and self.unfit_for_partial_images:
                    raise CDCError(
                        f"{self.label}: a session writes incomplete row images (binlog_row_image), and "
                        f"{self.unfit_for_partial_images}; SET GLOBAL binlog_row_image = FULL"
                    )
                if not is_there and not inserted:
                    is_unchanged = True
                elif not is_there:
                    readings.append((logged.default,))
                else:
                    value = row[str(logged.place)]
                    readings.append((None,) if value is None else logged.values(value))
            if is_unchanged:
                continue
            if item.template is None:
                values: list[str | bytes] = [value for value in readings[0] if value is not None]
            else:
                values = []
                for parts in itertools.product(*readings):
                    key = item.template.compose(
                        [
                            None if part is None else spelled(column, part)
                            for column, part in zip(item.parts, parts, strict=True)
                        ]
                    )
                    if isinstance(key, PrefixReference) and is_empty_prefix(key):
                        problem = empty_prefix_problem(item.spec.label, first_column(item), 1)
                        raise CDCError(f"a row was written since the scan: {problem}")
                    values.append(key)
            if values:
                found.append((item.spec.index, values))
        return found

    @staticmethod
    def _name(item: Item) -> str:
        assert item.column is not None  # noqa: S101 - queries are refused before
        return item.column.name


def words_of(full_type: str) -> list[str]:
    """Return the words of ``enum('a','b''c')`` or a set, in order."""
    words: list[str] = []
    inside = full_type[full_type.find("(") + 1 : full_type.rfind(")")]
    place = 0
    while (place := inside.find("'", place)) >= 0:
        word = ""
        place += 1
        while True:
            end = inside.find("'", place)
            if end < 0:
                return words
            word += inside[place:end]
            place = end + 1
            if inside[place : place + 1] != "'":
                break
            word += "'"
            place += 1
        words.append(word)
    return words


def _width(full_type: str) -> int:
    digits = full_type.partition("(")[2].partition(")")[0]
    return int(digits) if digits.isdigit() else 0


#: MySQL's latin1 is cp1252, with the five bytes that it leaves out as control characters.
_LATIN1 = tuple(bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)) for byte in range(256))


def _uuids(data: bytes) -> tuple[str, ...]:
    """MariaDB sorts some versions of a UUID by their last part first; both orders count."""
    data = data.ljust(16, b"\0")
    turned = data[12:16] + data[10:12] + data[8:10] + data[6:8] + data[:6]
    return tuple(dict.fromkeys((str(uuid.UUID(bytes=data)), str(uuid.UUID(bytes=turned)))))


def _json(data: bytes) -> str:
    """Return MySQL's binary JSON as text."""
    if not data:
        return "null"  # what an empty value stands for
    try:
        return json.dumps(_plain(parse_json(data[0], data[1:])), ensure_ascii=False, default=str)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise CDCError(
            f"a JSON value of the binary log cannot be read ({error}); nothing is concluded from it"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
