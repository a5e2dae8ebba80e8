"""What a value of MySQL or MariaDB can stand for: padding, and bytes that were stored under another charset's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3gc.references.sources.mysql_catalog import Column
from s3gc.references.sources.planning import byte_spellings

__all__ = ["decoded", "spelled", "spellings_asked"]


def decoded(column: Column | None, value: Any) -> tuple[str | bytes, ...]:
    """Return every value that a stored one means, the plain one first.

    Blanks at the end of CHAR and zeros at the end of BINARY are padding. Text in a latin1 column may be UTF-8
    that an old application stored through a latin1 connection: then it is also what that application reads.
    """
    if isinstance(value, (bytes, bytearray)):
        data = bytes(value)
        stripped = data.rstrip(b"\0")
        if column is not None and column.type == "binary" and stripped and stripped != data:
            return (data, stripped)
        return (data,)
    text = value if isinstance(value, str) else str(value)
    if column is None:
        return (text,)
    if column.type == "char":
        text = text.rstrip(" ")
    if column.charset == "latin1" and not text.isascii():
        try:
            return (text, _latin1_bytes(text).decode("utf-8"))
        except (UnicodeDecodeError, UnicodeEncodeError):
            pass
    return (text,)


def spelled(column: Column, value: Any) -> str:
    """Return the text of one part of a template."""
    found = decoded(column, value)[-1]
    return found.decode("utf-8", "surrogateescape") if isinstance(found, bytes) else found


def spellings_asked(column: Column | None, wanted: Mapping[str, list[str]]) -> dict[str | bytes, list[str]]:
    """Return the stored values to ask for, each with the keys that it names: the reverse of `decoded`."""
    asked: dict[str | bytes, list[str]] = {}
    for text, keys in wanted.items():
        if column is None or not column.is_binary:
            # What the column cannot hold must not be asked for: a literal beyond its charset is an error.
            if column is None or _can_hold(column.charset, text):
                asked.setdefault(text, []).extend(keys)
            if column is not None and column.charset == "latin1" and not text.isascii():
                asked.setdefault(_as_latin1(text.encode("utf-8", "surrogateescape")), []).extend(keys)
            continue
        for data in byte_spellings(text):
            asked.setdefault(data, []).extend(keys)
            if column.type == "binary" and (width := _width(column)) > len(data):
                asked.setdefault(data.ljust(width, b"\0"), []).extend(keys)
    return asked


def _can_hold(charset: str, text: str) -> bool:
    if charset == "ascii":
        return text.isascii()
    if charset == "latin1":
        try:
            _latin1_bytes(text)
        except UnicodeEncodeError:
            return False
        return True
    if charset in ("utf8", "utf8mb3", "ucs2"):
        return all(ord(character) <= 0xFFFF for character in text)
    return True


def _width(column: Column) -> int:
    digits = column.full_type.partition("(")[2].partition(")")[0]
    return int(digits) if digits.isdigit() else 0


def _latin1_bytes(text: str) -> bytes:
    """MySQL's latin1 is cp1252, with the five bytes that it leaves out as control characters."""
    return b"".join(
        bytes([ord(character)]) if 0x80 <= ord(character) <= 0x9F else character.encode("cp1252")
        for character in text
    )


def _as_latin1(data: bytes) -> str:
    return "".join(bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)) for byte in data)
