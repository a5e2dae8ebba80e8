"""Which of a bounded set of keys do values reference? The full rules, but only where they could matter.

The full rules cost a hundred microseconds a value and more. Nearly every spelling of a key keeps the key's longest run
of ``[A-Za-z0-9_-]`` (percent, entity and JSON escapes touch other characters): its *anchor*. So a value is read in full
only if one of its runs, in any of its decodings, is the anchor of a wanted key; or if it could be a prefix, or hides
base64. A run that a rule adds to a key (a base URL's key prefix, a derivative's literal) need not stand in the value,
so anchors are taken from what must. A key without any anchor switches the filter off. The fuzz in the tests
compares with the full rules.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from s3gc.config import ReferenceFormat
from s3gc.references.derivatives import derived_keys, splits
from s3gc.references.extract import extract
from s3gc.references.spelling import decoded_base64
from s3gc.references.types import ColumnSpec, PrefixReference, ReferenceRules

__all__ = ["Hit", "Matcher"]

_RUN = re.compile(r"[A-Za-z0-9_-]+")
_BASE64_RUN = re.compile(r"[A-Za-z0-9_\-+/=]{8,}")
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_DECODABLE = re.compile(r"[%&\\]")
_HEX_VALUE = re.compile(r"\s*\\+x")
_UUID_RUN = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_DIRECTORY = re.compile(r"(?:/|%2[fF]|%252[fF])[\"'\\\s.,;:!)\]}>]*(?:$|[?#\"])")
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Hit:
    """Why a key is referenced: the column, and the value, shortened to 200 characters."""

    column: ColumnSpec
    value: str


def _anchor(text: str) -> str:
    """The longest run of `text`, decomposed; empty when it has none."""
    runs = _RUN.findall(text if text.isascii() else unicodedata.normalize("NFD", text))
    return max(runs, key=len, default="")


class _Anchors:
    """The anchors of the wanted keys under one set of rules; `is_open`: some key has none, every value must be read."""

    def __init__(self, keys: Iterable[str], rules: ReferenceRules) -> None:
        self.runs: set[str] = set()
        self.is_open = False
        added = {
            prefix for prefix in (*rules.key_prefixes, *(prefix for _, prefix in rules.base_urls)) if prefix
        }
        for key in keys:
            self._add(key, added)
            for template in rules.derivatives:
                ways = splits(key, template)
                if ways is None:
                    self.is_open = True
                    continue
                for parts in ways:
                    self._add(max(parts.values(), key=lambda part: len(_anchor(part)), default=""), added)

    def _add(self, text: str, prefixes: set[str]) -> None:
        for core in {text, *(text.removeprefix(prefix) for prefix in prefixes)}:
            if anchor := _anchor(core):
                self.runs.add(anchor)
                if _UUID_RUN.fullmatch(anchor):
                    bare = anchor.replace("-", "")
                    dashed = "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))
                    for form in (bare, dashed):
                        self.runs |= {form.lower(), form.upper()}
            else:
                self.is_open = True


class Matcher:
    """Feed values; `referenced` then holds each wanted key that one of them names, with the first reason.

    Memory grows with the wanted keys only. `columns` are those that will be fed: their rules shape the anchors.
    """

    def __init__(self, keys: Iterable[str], columns: Sequence[ColumnSpec]) -> None:
        self.wanted = frozenset(keys)
        self.referenced: dict[str, Hit] = {}
        self.full_rule_calls = 0
        self._sorted: list[str] | None = None
        self._anchors: dict[ReferenceRules, _Anchors] = {}
        for column in columns:
            self._anchors_of(column)

    def feed(self, column: ColumnSpec, values: Sequence[object]) -> None:
        """Compare `values` (None, str, bytes, PrefixReference) of `column`."""
        if column.format is ReferenceFormat.KEY and not column.rules.derivatives:
            prefixes = ("", *column.rules.key_prefixes)
            for value in values:
                if isinstance(value, str) and not isinstance(value, PrefixReference):
                    for key in {value, value.lstrip("/")}:
                        for prefix in prefixes:
                            if prefix + key in self.wanted:
                                self.referenced.setdefault(prefix + key, Hit(column, value[:200]))
                elif value is not None:
                    self._read(column, value)
            return
        anchors = self._anchors_of(column)
        runs, is_open = anchors.runs, anchors.is_open or column.format is ReferenceFormat.PREFIX
        for value in values:
            if value is None:
                continue
            if is_open or type(value) is not str or _may_concern(value, runs):
                self._read(column, value)

    def may_concern(self, column: ColumnSpec, value: object) -> bool:
        """Whether the full rules have to be asked about `value`."""
        anchors = self._anchors_of(column)
        return anchors.is_open or type(value) is not str or _may_concern(value, anchors.runs)

    def _anchors_of(self, column: ColumnSpec) -> _Anchors:
        known = self._anchors.get(column.rules)
        if known is None:
            known = self._anchors[column.rules] = _Anchors(self.wanted, column.rules)
        return known

    def _read(self, column: ColumnSpec, value: object) -> None:
        self.full_rule_calls += 1
        found = extract(value, column.format, column.rules)
        hit = Hit(column, str(value)[:200])
        templates = column.rules.derivatives
        for key in found.keys:
            if key in self.wanted:
                self.referenced.setdefault(key, hit)
            if templates:
                for derived in derived_keys(key, templates) & self.wanted:
                    self.referenced.setdefault(derived, hit)
        for prefix in found.prefixes:
            self._under(prefix, hit, templates)

    def _under(self, prefix: str, hit: Hit, templates: Sequence[str]) -> None:
        if not prefix:
            return
        if self._sorted is None:
            self._sorted = sorted(self.wanted)
        at = bisect_left(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            self.referenced.setdefault(self._sorted[at], hit)
            at += 1
        if templates:  # what was made of an object under the prefix lives with it, wherever it lies
            for key in self.wanted - self.referenced.keys():
                for template in templates:
                    for parts in splits(key, template) or ({},):
                        origin = parts.get("key") or parts.get("stem") or parts.get("dir")
                        # No origin in the template: it could have been under the prefix, so it is kept.
                        if (origin is None and "name" in parts) or (origin or "").startswith(prefix):
                            self.referenced.setdefault(key, hit)


def _may_concern(value: str, runs: set[str]) -> bool:
    text = value if value.isascii() else unicodedata.normalize("NFD", value)
    if not runs.isdisjoint(_RUN.findall(text)):
        return True
    if _DECODABLE.search(value):
        if _HEX_VALUE.match(value):
            return True
        text = value
        for _ in range(_ROUNDS):
            plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
            entities = html.unescape(text)
            for variant in (plain, entities, unquote(text), html.unescape(plain).replace("\\", "")):
                shown = variant if variant.isascii() else unicodedata.normalize("NFD", variant)
                if not runs.isdisjoint(_RUN.findall(shown)):
                    return True
            following = unquote(html.unescape(plain).replace("\\/", "/"))
            if following == text:
                break
            text = following
        if _hides_base64(text):
            return True
    if value.rstrip()[-1:] == "/" or _DIRECTORY.search(value):
        return True
    return _hides_base64(value)


def _hides_base64(value: str) -> bool:
    for run in _BASE64_RUN.findall(value):
        if decoded_base64(run) is not None:
            return True
        if "/" not in run:
            continue
        segments = [segment for segment in run.split("/") if segment][:64]
        for index, segment in enumerate(segments):
            if decoded_base64(segment) is not None or (
                index + 1 < len(segments) and decoded_base64("".join(segments[index:])) is not None
            ):
                return True
    return False
