"""What could a value mean? Every key, read generously: one too many keeps an orphan, one too few loses a file.

The walk goes through everything that a value could hide: JSON in JSON, HTML, Markdown, lists, escapes, image
proxies, base64. It never decides that something is *not* a reference, except for addresses that provably belong to
another bucket or to a host that the policy calls foreign. The rules are in docs/references.md, with test vectors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from s3gc.config import ReferenceFormat
from s3gc.references.hosts import locate, split_url
from s3gc.references.spelling import (
    decoded_base64,
    decoded_texts,
    is_simple,
    key_spellings,
    suffixes,
    tokens,
    unicode_forms,
)
from s3gc.references.types import Extraction, PrefixReference, ReferenceRules

__all__ = ["extract"]

#: How deep texts may lie in texts (JSON in an attribute of HTML in JSON …).
MAX_DEPTH = 8
#: Texts looked at in one value. What lies beyond is still split into words; then the value counts as unparsed too.
MAX_TEXTS = 50_000

_IGNORED = ("data:", "blob:", "mailto:", "javascript:", "tel:", "about:")
_URI = re.compile(r"(?:s3|s3a|s3n|gs)://([^/?#]+)/(.*)", re.IGNORECASE | re.DOTALL)
_ARN = re.compile(r"arn:aws[a-z-]*:s3:::([^/]+)/(.*)", re.IGNORECASE | re.DOTALL)
_EMBEDDED = re.compile(r"(?:https?:/{1,2}|s3[an]?://|gs://)", re.IGNORECASE)
_SPLITTABLE = re.compile(r"[\s,;|\"'`<>()\[\]{}]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"\\+x((?:[0-9a-fA-F]{2})+)")


def extract(value: object, column_format: ReferenceFormat, rules: ReferenceRules) -> Extraction:
    """Return every key and prefix that `value` could mean; see `Extraction`. Never raises for any value."""
    walk = _Walk(column_format, rules)
    walk.value(value)
    return walk.finish()


class _Walk:
    def __init__(self, column_format: ReferenceFormat, rules: ReferenceRules) -> None:
        self.format, self.rules = column_format, rules
        self.out = Extraction()
        self.seen: set[tuple[str, bool]] = set()
        self.is_empty = True
        self.bases = sorted(
            ((_bare(url), prefix) for url, prefix in rules.base_urls), key=lambda b: -len(b[0])
        )

    def value(self, value: object) -> None:
        if value is None:
            return
        if isinstance(value, PrefixReference):
            self.is_empty = False
            self._prefixes(str(value))
        elif isinstance(value, str):
            self._start(value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._bytes(bytes(value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.value(key)
                self.value(item)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                self.value(item)
        else:
            self._start(str(value))

    def finish(self) -> Extraction:
        out = self.out
        out.keys.discard("")
        out.prefixes.discard("")
        found = out.keys or out.prefixes
        if not self.is_empty and not found and not (out.ignored or out.foreign or out.other_bucket):
            out.unparsed = True
        return out

    def _bytes(self, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._start(data.decode("latin-1"))
            self._add({data.hex()} if len(data) <= 512 else set())
            self.out.unparsed = True  # kept by every doubt, and reported
            return
        self._start(text)

    def _start(self, text: str) -> None:
        if not text.strip():
            return
        self.is_empty = False
        if self.format is ReferenceFormat.KEY:
            self._add({text, text.lstrip("/")})
            return
        if self.format is ReferenceFormat.PREFIX:
            self.text(text, 0, whole=False)
            self.out.prefixes |= self.out.keys
            self.out.keys = set()
            return
        self.text(text, 0, whole=True)

    def _add(self, keys: set[str]) -> None:
        for key in keys:
            self.out.keys.add(key)
            for prefix in self.rules.key_prefixes:
                self.out.keys.add(prefix + key)

    def _prefixes(self, text: str) -> None:
        for form in unicode_forms(text) | unicode_forms(text.lstrip("/")):
            if form.strip("/"):
                self.out.prefixes.add(form)
                self.out.prefixes.update(prefix + form for prefix in self.rules.key_prefixes)

    # --- texts

    def text(self, text: str, depth: int, *, whole: bool) -> None:
        """`whole`: the text is a value of its own (or a string of a JSON document), not a word of a text."""
        if (text, whole) in self.seen or not text.strip():
            return
        self.seen.add((text, whole))
        if len(self.seen) > MAX_TEXTS or depth > MAX_DEPTH:
            self._add(key_spellings(text) if len(text) <= 4096 else set())
            self.out.unparsed = self.out.unparsed or len(self.seen) > MAX_TEXTS
            return
        stripped = text.strip()
        if stripped[:11].lower().startswith(_IGNORED):
            self.out.ignored = True
            if len(text) <= 1024:  # a key may begin so, too; a data: URL of a picture is longer
                self._add({text})
            return
        if is_simple(text) and not self.bases:
            self._add(key_spellings(text))
            self._uuid(text)
            self._base64(text, depth)
            return
        if len(text) <= 1_000_000:
            for other in decoded_texts(text):
                self.text(other, depth + 1, whole=whole)
        if self._json(stripped, depth, whole):
            return
        if match := _HEX.fullmatch(stripped):
            self._bytes(bytes.fromhex(match[1]))
        self._address(stripped, depth, whole=whole)
        if stripped != text:
            self._add(key_spellings(text))
        self._uuid(stripped)
        self._base64(stripped, depth)
        if _SPLITTABLE.search(stripped) and self.format is not ReferenceFormat.URL:
            for token in tokens(text):
                self.text(token, depth + 1, whole=False)

    def _json(self, text: str, depth: int, whole: bool) -> bool:
        """Walk a JSON document. True when nothing else has to be looked for in it."""
        if text[:1] not in '{["' or len(text) < 2:
            return False
        try:
            document = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return False
        stack: list[Any] = [document]
        while stack:
            item = stack.pop()
            if isinstance(item, dict):
                stack.extend(item.keys())
                stack.extend(item.values())
            elif isinstance(item, list):
                stack.extend(item)
            elif isinstance(item, str):
                self.text(item, depth + 1, whole=whole)
            elif item is not None and not isinstance(item, bool):
                self._add({str(item)})
        self._add({text} if len(text) <= 1024 else set())
        return True

    def _uuid(self, text: str) -> None:
        if _UUID.fullmatch(text):
            bare = text.replace("-", "")
            dashed = "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))
            self._add({bare, dashed, bare.lower(), dashed.lower(), bare.upper(), dashed.upper()})

    def _base64(self, text: str, depth: int) -> None:
        if (decoded := decoded_base64(text)) is not None:
            self.text(decoded, depth + 1, whole=False)

    # --- addresses

    def _address(self, text: str, depth: int, *, whole: bool) -> None:
        for pattern in (_URI, _ARN):
            if match := pattern.fullmatch(text):
                if match[1] == self.rules.bucket:
                    self._path(match[2], whole=whole)
                else:
                    self.out.other_bucket += 1
                return
        is_based = self._based(text, whole=whole)
        if (url := split_url(text)) is not None:
            self._url(url, depth, whole=whole, is_based=is_based)
            return
        self._path(text, whole=whole)
        if text.startswith("www.") or (text[:1] != "/" and "." in text.partition("/")[0] and "/" in text):
            # Perhaps a host without its scheme: what it is followed by may be the key.
            host, _, rest = text.partition("/")
            address = locate(host.lower().split(":")[0], "/" + rest, self.rules)
            if address.kind in ("own", "undeclared"):
                self._path(address.path, whole=False, all_suffixes=address.kind == "undeclared")
        if _DRIVE.match(text) or text.startswith("\\\\") or "\\" in text:
            path = text.replace("\\", "/")
            self._path(path, whole=False, all_suffixes=True)
        if "?" in text or "=" in text:
            self._nested(text, depth)
        if (found := _EMBEDDED.search(text)) and found.start() > 0:
            self._embedded(text, depth)

    def _based(self, text: str, *, whole: bool) -> bool:
        """Keys under a declared base URL: any scheme or none, the host in any case."""
        bare = _bare(text)
        found = False
        for base, prefix in self.bases:
            size = len(base)
            if bare[:size].lower() == base.lower() and (
                size == len(bare) or base.endswith("/") or bare[size] in "/?#"
            ):
                found = True
                rest = bare[size:] if base.endswith("/") else bare[size:].removeprefix("/")
                keys = self._path(rest, whole=whole)
                if prefix:
                    self._add({prefix + key for key in keys})
                    if whole:
                        self._directory(rest, prefix)
        return found

    def _url(self, url: tuple[str, str, str], depth: int, *, whole: bool, is_based: bool) -> None:
        _, host, rest = url
        address = locate(host, rest, self.rules)
        if address.kind == "own":
            self._path(address.path, whole=whole)
        elif address.kind == "other":
            self.out.other_bucket += 1
        elif address.kind == "foreign":
            self.out.foreign += 1
        else:
            if not is_based and host:
                self.out.undeclared_hosts.add(host)
            self._path(address.path, whole=False, all_suffixes=True)
        # Whoever's host it is: an image proxy's URL carries ours inside.
        self._nested(rest, depth)
        self._embedded(rest, depth)
        segments = [part for part in re.split(r"[/]", rest.partition("?")[0]) if part][:64]
        for index, segment in enumerate(segments):
            for candidate in {segment, "".join(segments[index:])}:
                bare = re.sub(r"(?:\.\w{2,5}|@\w{2,5})$", "", unquote(candidate))
                if (decoded := decoded_base64(bare)) is not None:
                    self.text(decoded, depth + 1, whole=False)

    def _nested(self, rest: str, depth: int) -> None:
        for part in re.split(r"[?&;]", rest)[:256]:
            _, equals, raw = part.partition("=")
            if not equals or not raw:
                continue
            for once in {raw, unquote(raw), unquote(unquote(raw))}:
                if once != rest:
                    self.text(once, depth + 2, whole=False)

    def _embedded(self, rest: str, depth: int) -> None:
        for raw in {rest, unquote(rest), unquote(unquote(rest))}:
            for found in list(_EMBEDDED.finditer(raw))[:16]:
                inner = re.sub(r"^(https?):/(?!/)", r"\1://", raw[found.start() :], flags=re.IGNORECASE)
                self.text(inner, depth + 1, whole=False)
                self.text(re.sub(r"@\w{2,5}$", "", inner), depth + 1, whole=False)

    def _path(self, path: str, *, whole: bool, all_suffixes: bool = False) -> set[str]:
        keys = key_spellings(path) if len(path) <= 16_384 else set()
        if all_suffixes:
            keys |= {suffix for key in tuple(keys) for suffix in suffixes(key)}
        self._add(keys)
        if whole and not all_suffixes:
            self._directory(path, "")
        return keys

    def _directory(self, path: str, key_prefix: str) -> None:
        """A whole value that ends in a slash and has a path means everything under it."""
        for spelling in key_spellings(path) if len(path) <= 4096 else ():
            if spelling.endswith("/") and spelling.strip("/"):
                self._prefixes(key_prefix + spelling)


def _bare(url: str) -> str:
    """A URL without scheme and slashes before its host; a path stays a path."""
    return re.sub(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//", "", url)
