"""The spellings of one path, and the texts that hide in other texts: percent, entities, escapes, base64.

Every function returns a superset. A spelling too many keeps an orphan; one too few deletes a file that a row names.
"""

from __future__ import annotations

import base64
import binascii
import html
import posixpath
import re
import unicodedata
from urllib.parse import unquote, unquote_plus

__all__ = [
    "decoded_base64",
    "decoded_texts",
    "is_simple",
    "key_spellings",
    "suffixes",
    "tokens",
    "unicode_forms",
]

MAX_KEY_BYTES = 1024

is_simple = re.compile(r"[A-Za-z0-9_\-.=@]+(?:/[A-Za-z0-9_\-.=@]+)*").fullmatch
_BASE64 = re.compile(r"[A-Za-z0-9_\-+/=]{8,}")
_UNICODE_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})(?:\\+u([dD][c-fC-F][0-9a-fA-F]{2}))?")
_SEPARATORS = re.compile(r"[\s,;|\"'`<>()\[\]{}]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_BRACKETED = re.compile(r"<([^<>]*)>|\(([^()]*)\)|\[([^\[\]]*)\]")
_LISTED = re.compile(r"[,;|\r\n]\s*(?:[-*]\s+)?")
_ATTRIBUTE = re.compile(r"=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]*)['\"]?\s*\)", re.IGNORECASE)
_URLS = re.compile(r"""(?:[a-z][a-z0-9+.-]{1,9}:|)//[^\s"'<>\\^`{}|]+""", re.IGNORECASE)
_ENDS = " \t\r\n.,;:!?)]}>\"'"


def unicode_forms(text: str) -> set[str]:
    """`text`, composed and decomposed."""
    if text.isascii():
        return {text}
    return {text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)}


def suffixes(path: str) -> set[str]:
    """Everything after each slash of `path`."""
    found: set[str] = set()
    at = path.find("/")
    while at >= 0:
        if at + 1 < len(path):
            found.add(path[at + 1 :])
        at = path.find("/", at + 1)
    return found


def key_spellings(path: str) -> set[str]:
    """Every key that a raw path could mean: as it is, cut at ? and #, decoded, unslashed, resolved, composed."""
    if is_simple(path) and "./" not in path:
        return {path} if len(path) <= MAX_KEY_BYTES else set()
    cut = {path, path.partition("?")[0], path.partition("#")[0], re.split(r"[?#]", path, maxsplit=1)[0]}
    decoded: set[str] = set()
    for one in cut:
        once = unquote(one)
        decoded |= {
            one,
            once,
            unquote(once),
            unquote(unquote(once)),
            one.replace("+", " "),
            unquote_plus(one),
        }
        decoded |= {
            unquote(unquote_plus(one)),
            unquote_plus(once),
            one.replace("\\", "/"),
            once.replace("\\", "/"),
        }
    found: set[str] = set()
    for one in decoded:
        shapes = {one, one.strip(), one.rstrip(_ENDS), one.strip(_ENDS)}
        for shape in shapes:
            bare = shape.lstrip("/")
            found |= {shape, bare}
            if "//" in shape:
                found.add(re.sub(r"/{2,}", "/", bare))
            if "./" in shape or shape.endswith("/.."):
                tail = "/" if shape.endswith("/") else ""
                resolved = posixpath.normpath("/" + bare).lstrip("/")
                found |= {
                    resolved + tail,
                    re.sub(r"^(?:\./)+", "", shape),
                    re.sub(r"^(?:\.\.?/)+", "", shape),
                }
    keys: set[str] = set()
    for one in found:
        keys |= unicode_forms(one)
    return {key for key in keys if key and len(key.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES}


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        high = int(match[1], 16)
        if match[2] is None:
            return chr(high)
        low = int(match[2], 16)
        if 0xD800 <= high < 0xDC00:
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        return chr(high) + chr(low)

    return _UNICODE_ESCAPE.sub(character, text)


def decoded_texts(text: str) -> set[str]:
    """Other readings of the same text: HTML entities (twice), JSON escapes (``\\/``, ``\\u00e9``, ``\\"``)."""
    found: set[str] = set()
    if "&" in text:
        once = html.unescape(text)
        found |= {once, html.unescape(once)}
    if "\\" in text:
        plain = _unescape(text)
        found |= {
            text.replace("\\/", "/"),
            plain,
            plain.replace("\\/", "/"),
            re.sub(r"\\(.)", r"\1", plain, flags=re.DOTALL),
        }
        found.add(re.sub(r"\\+/", "/", plain))
    return found - {text}


def decoded_base64(segment: str) -> str | None:
    """The text that a (URL-safe) base64 segment holds, if it could be a path, URL or JSON; else None."""
    if len(segment) < 8 or not _BASE64.fullmatch(segment):
        return None
    try:
        raw = segment.rstrip("=").replace("+", "-").replace("/", "_")
        text = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return text if any(mark in text for mark in "/.{:") and text.isprintable() else None


def tokens(text: str) -> set[str]:
    """Everything in a text that could be a reference: words, quoted strings, list items, attributes, URLs."""
    found = set(_SEPARATORS.split(text))
    found.update(a or b for a, b in _QUOTED.findall(text))
    found.update(a or b or c for a, b, c in _BRACKETED.findall(text))
    found.update(_LISTED.split(text))
    found.update(a or b or c for a, b, c in _ATTRIBUTE.findall(text))
    found.update(_CSS_URL.findall(text))
    found.update(url.rstrip(_ENDS) for url in _URLS.findall(text))
    found.update(line.strip() for line in text.splitlines())
    words = set()
    for token in found:
        if token and token[-1] in _ENDS:
            words.add(token.rstrip(_ENDS))
        if "=" in token or ":" in token:
            words.update(token.rpartition(mark)[2] for mark in "=:")
    return {token for token in found | words if token.strip("-:=,. \t*#")} - {text}
