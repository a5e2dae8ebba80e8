"""Object keys exactly as they are: on the wire, in memory, and when they are not text at all.

A key is any sequence of up to 1024 bytes that should be UTF-8; `+`, `%2F`, newlines, `//`, dot segments and a
leading slash are all ordinary. Nothing here (or anywhere) normalises one: another spelling is another object,
and deleting "the same key, tidied" deletes somebody else's file.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from s3gc.exceptions import StoreError

__all__ = [
    "INVALID_UTF8",
    "LAST_CODE_POINT",
    "is_escaped",
    "key_bytes",
    "key_text",
    "quote_key",
    "unquote_listed",
]

#: What a key that is not UTF-8 begins with in our tables, followed by its percent-encoded bytes. A real key
#: that begins with this is escaped as well, so that no two keys ever have the same text.
INVALID_UTF8 = "\ufffd(not UTF-8)"

#: Sorts after every other character, in UTF-8 order too.
LAST_CODE_POINT = "\U0010ffff"


def key_text(raw: bytes) -> str:
    """Return the text that stands for the key `raw` in tables: itself when it is UTF-8, else a lossless
    escape.

    The mapping is injective, so a broken key never aliases another one; :func:`key_bytes` is its inverse.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return INVALID_UTF8 + quote(raw, safe="")
    return INVALID_UTF8 + quote(raw, safe="") if text.startswith(INVALID_UTF8) else text


def key_bytes(text: str) -> bytes:
    """Return the bytes of the key that `text` stands for; they order as S3 orders keys."""
    if text.startswith(INVALID_UTF8):
        return unquote_to_bytes(text.removeprefix(INVALID_UTF8))
    return text.encode()


def is_escaped(text: str) -> bool:
    return text.startswith(INVALID_UTF8)


def quote_key(key: str) -> str:
    """Return `key` percent-encoded for a URL's path, slashes kept: what is sent and what is signed.

    Raises StoreError for a key that cannot be sent exactly (empty, a lone surrogate, or our escape of a key
    that is not UTF-8: no request must ever address it by a guess).
    """
    if not key:
        raise StoreError("An object key is empty; an empty key would address the bucket itself.")
    if is_escaped(key):
        raise StoreError(
            f"The key {key!r} stands for bytes that are not UTF-8; such an object is never touched."
        )
    try:
        return quote(key.encode(), safe="/~")
    except UnicodeEncodeError as error:
        raise StoreError(f"The key {key!r} is not Unicode text and cannot be sent exactly.") from error


def unquote_listed(raw: bytes) -> bytes:
    """Undo `encoding-type=url` as S3 writes it in listings: percent-encoding, and `+` for a space."""
    return unquote_to_bytes(raw.replace(b"+", b" "))
