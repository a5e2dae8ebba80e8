"""A path as it was written to the keys that it could name: decoded, trimmed, resolved, each also left alone.

Used for plain values and for the part of a URL after its host, once everything around it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from s3gc.references.encodings import percent_readings

__all__ = ["BLANKS", "MAX_KEY_BYTES", "MAX_WHOLE_PATH", "is_key", "spellings", "suffixes", "without_dots"]

#: A key of S3 has at most so many bytes of UTF-8.
MAX_KEY_BYTES = 1024
#: A longer path names no key as a whole, whatever it is encoded with (percent-encoded twice: 5 characters a byte).
MAX_WHOLE_PATH = 16_384

#: What people and editors leave around a value: white space, NUL, zero-width characters, byte order marks.
BLANKS = " \t\r\n\f\v\x00\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + (
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)

_PLAIN = re.compile(r"[A-Za-z0-9_\-.=@,!~()$*:]+(?:/[A-Za-z0-9_\-.=@,!~()$*:]+)*")
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")
_SLASHES = re.compile(r"/{2,}")


def is_key(text: str) -> bool:
    """Whether an object could have this key: 1 to 1,024 bytes of UTF-8."""
    if len(text) > MAX_KEY_BYTES or not text:
        return False
    if text.isascii():
        return True
    try:
        return len(text.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def spellings(path: str) -> set[str]:
    """Return everything that `path` (still encoded, perhaps with query and fragment) could have meant.

    Raw, percent-decoded once and twice, ``+`` as itself and as a space, with and without query and fragment,
    leading slashes, blanks, ``./``, doubled slashes and dot segments, backslashes as slashes. Never empty
    strings. Unicode forms are not made here.
    """
    if _PLAIN.fullmatch(path) and not _DOTS.search(path):
        return {path}
    found: set[str] = set()
    for cut in _cuts(path):
        if len(cut) > MAX_WHOLE_PATH:
            continue
        for decoded in _decoded(cut):
            for part in _cuts(decoded):
                found.update(_resolved(part))
    found.discard("")
    return found


def _cuts(path: str) -> set[str]:
    """With and without what may be a query, a fragment or path parameters (``;jsessionid=…``)."""
    cuts = {path}
    for mark in "?#;":
        if mark in path:
            cuts.add(path.partition(mark)[0])
    return cuts


def _decoded(text: str) -> set[str]:
    found = {text}
    if "+" in text:
        found.add(text.replace("+", " "))
    layer = found
    for _ in range(2):
        layer = {reading for item in layer for reading in percent_readings(item)} - found
        if not layer:
            break
        layer |= {item.replace("+", " ") for item in layer if "+" in item}
        found = found | layer
    return found


def _resolved(text: str) -> Iterator[str]:
    yield text
    forms = {text, text.strip(BLANKS)}
    if "\\" in text:
        forms |= {form.replace("\\", "/") for form in forms}
    for form in forms:
        yield form
        bare = form.lstrip("/")
        yield bare
        if form.startswith("/"):
            yield form[1:]
        if "//" in bare:
            yield _SLASHES.sub("/", bare)
            yield _SLASHES.sub("/", form)
        if _DOTS.search(form):
            yield re.sub(r"^(?:\.?/)+", "", form)
            yield without_dots(form)
            yield without_dots(_SLASHES.sub("/", form))


def without_dots(path: str) -> str:
    """Resolve ``.`` and ``..`` (RFC 3986, 5.2.4), never above the root; the result has no leading slash."""
    kept: list[str] = []
    segments = path.lstrip("/").split("/")
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", "..") and kept:
        kept.append("")
    return "/".join(kept)


def suffixes(path: str) -> Iterator[str]:
    """Yield what follows each slash of `path`: the keys it could name if its beginning is not part of the key.

    Only what could be a key is cut, so that a path of a megabyte costs no more than one of 1,024 characters.
    """
    start = max(0, len(path) - MAX_KEY_BYTES - 1)
    place = path.find("/", start)
    while place >= 0:
        rest = path[place + 1 :]
        if rest:
            yield rest
        place = path.find("/", place + 1)
