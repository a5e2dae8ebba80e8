"""Which of a bounded set of keys do values reference? The full rules, but only where they could matter.

Stands on `reading` (the full rules) and `anchors` (the filter that says where they cannot matter). The wanted keys
are held in memory; the values stream past, however many there are.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter

from s3gc.config import ReferenceFormat
from s3gc.references.anchors import Anchors
from s3gc.references.derivatives import derived_keys, splits
from s3gc.references.encodings import texts_of
from s3gc.references.paths import BLANKS, is_key
from s3gc.references.reading import Reading
from s3gc.references.tokens import strings_in
from s3gc.references.types import ColumnSpec, PrefixReference
from s3gc.references.urls import Rules, compiled

__all__ = ["Hit", "Matcher"]

_SHOWN = 200
#: Values whose full reading is remembered, so that a default avatar in a million rows is read once.
_REMEMBERED = 50_000
_REMEMBERED_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Hit:
    """Why a key is referenced: the column, and the value, shortened to 200 characters."""

    column: ColumnSpec
    value: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the values of one column are read."""

    column: ColumnSpec
    rules: Rules
    templates: tuple[str, ...]
    group: tuple[ReferenceFormat, Rules, tuple[str, ...]]  # columns of one group read alike


class Matcher:
    """Finds which of `keys` the values of `columns` reference; for one thread at a time.

    `referenced` grows with `feed`: key -> the first hit. It finds what `extract` finds, the derivatives of that,
    and every key that differs from it only in Unicode normalisation. `full_rule_calls` counts the values that
    were read in full.
    """

    def __init__(self, keys: Iterable[str], columns: Sequence[ColumnSpec]) -> None:
        self.referenced: dict[str, Hit] = {}
        self.full_rule_calls = 0
        self._wanted = dict.fromkeys(keys)
        self._composed: dict[str, list[str]] = {}
        for key in self._wanted:
            if not key.isascii():
                self._composed.setdefault(unicodedata.normalize("NFC", key), []).append(key)
        self._sorted: list[str] | None = None
        self._done: set[str] = set()
        self._remembered: dict[tuple[ReferenceFormat, Rules, tuple[str, ...]], set[str]] = {}
        self._plans = {column: _plan(column) for column in columns}
        self._anchors = self._make_anchors()

    def _make_anchors(self) -> Anchors:
        unfiltered = (ReferenceFormat.KEY, ReferenceFormat.PREFIX)
        plans = [plan for plan in self._plans.values() if plan.column.format not in unfiltered]
        templates = [template for plan in plans for template in plan.templates]
        keys = list(self._wanted) if plans else []
        return Anchors(keys, [plan.rules for plan in plans], templates, self.referenced)

    def feed(self, column: ColumnSpec, values: Sequence[object]) -> None:
        """Compare `values`, as `Snapshot.values` yields them, of one of the matcher's columns."""
        plan = self._plans.get(column)
        if plan is None:
            plan = self._plans[column] = _plan(column)
            self._anchors = self._make_anchors()  # a column that was not announced: its rules count as well
        if len(self.referenced) == len(self._wanted):
            return
        if column.format is ReferenceFormat.KEY:
            for value in values:
                self._feed_key(plan, value)
            return
        concern = self._anchors.concern
        is_prefix = column.format is ReferenceFormat.PREFIX
        remembered = self._remembered.setdefault(plan.group, set())
        for value in values:
            if value is None:
                continue
            if type(value) is str and not is_prefix:
                if not concern(value):
                    continue
            elif not self._concerns(value, is_prefix=is_prefix):
                continue
            if isinstance(value, str) and len(value) <= _REMEMBERED_LENGTH:
                # What was read in full once, by the same rules, has nothing new to say.
                mark = f"{type(value) is PrefixReference:d}{value}"
                if mark in remembered:
                    continue
                if len(remembered) >= _REMEMBERED:
                    remembered.clear()
                remembered.add(mark)
            self._read(plan, value)

    def may_concern(self, value: object) -> bool:
        """Whether the full rules could find an unreferenced wanted key in `value`; true when in doubt.

        For every column that is not of `format: key` or `prefix`.
        """
        return value is not None and self._concerns(value, is_prefix=False)

    def _concerns(self, value: object, *, is_prefix: bool) -> bool:
        if is_prefix or isinstance(value, PrefixReference):
            return True
        if isinstance(value, str):
            return self._anchors.concern(str(value))
        if isinstance(value, dict | list | tuple | set | frozenset):
            return any(self._anchors.concern(text) for text in _texts(value))
        if isinstance(value, bytes | bytearray | memoryview):
            if self._anchors.concern(bytes(value).hex()) or self._anchors.concern(bytes(value).hex().upper()):
                return True
            # Strings in binary records are glued to their length bytes: no words to compare.
            return any(not trusted or self._anchors.concern(text) for text, trusted in texts_of(value))
        return any(self._anchors.concern(text) for text, _ in texts_of(value))

    # --- reading

    def _read(self, plan: _Plan, value: object) -> None:
        self.full_rule_calls += 1
        key = partial(self._found_key, plan, value)
        prefix = partial(self._found_prefix, plan, value)
        reading = Reading(plan.column.format, plan.rules, key, prefix)
        reading.value(value)
        if reading.is_cut:
            # Too large to be read to its end. What it could name at all is kept: it cannot be shown that it does not.
            for text in _texts(value):
                for wanted in self._anchors.named(text, folders=reading.misses_folders):
                    self.referenced[wanted] = Hit(plan.column, _shown(value))

    def _feed_key(self, plan: _Plan, value: object) -> None:
        """A column of exact keys: looked up, unless it holds something that is no plain text."""
        if type(value) is not str:
            if value is not None:
                self._read(plan, value)
            return
        bare = value.strip(BLANKS)
        if not bare:
            return
        spelled = {value, bare, value.lstrip("/"), bare.lstrip("/"), value.removeprefix("/")}
        for text in spelled:
            for start in plan.rules.key_prefixes:
                key = start + text
                if (plan.templates or key in self._wanted) and is_key(key):
                    self._found_key(plan, value, key)

    def _found_key(self, plan: _Plan, value: object, key: str) -> None:
        self._hit(plan, value, key)
        for derived in derived_keys(key, plan.templates) if plan.templates else ():
            self._hit(plan, value, derived)
            if derived.endswith("/"):
                self._hit_under(plan, value, derived)

    def _hit(self, plan: _Plan, value: object, key: str) -> None:
        if key in self._wanted and key not in self.referenced:
            self.referenced[key] = Hit(plan.column, _shown(value))
        if self._composed and not key.isascii() and plan.column.format is not ReferenceFormat.KEY:
            for other in self._composed.get(unicodedata.normalize("NFC", key), ()):
                if other not in self.referenced:
                    self.referenced[other] = Hit(plan.column, _shown(value))

    def _found_prefix(self, plan: _Plan, value: object, prefix: str) -> None:
        for key in self._under(prefix, prefix):
            self._hit(plan, value, key)
        for template in plan.templates:
            # A template that forgets the folder may have made anything it matches, whatever the prefix.
            is_blind = not any(f"{{{part}}}" in template for part in ("key", "stem", "dir"))
            for start in _derived_starts(prefix, template):
                # Beside other keys that begin so, those that this template makes of something under the prefix.
                for key in self._under(start, f"{template}\n{start}\n{'' if is_blind else prefix}"):
                    if key not in self.referenced and _is_made_under(prefix, template, key):
                        self._hit(plan, value, key)

    def _hit_under(self, plan: _Plan, value: object, prefix: str) -> None:
        for key in self._under(prefix, prefix):
            self._hit(plan, value, key)

    def _under(self, start: str, mark: str) -> Iterator[str]:
        """Yield the wanted keys that start with `start`; nothing when this was asked for `mark` before."""
        if mark in self._done:
            return
        if self._sorted is None:
            self._sorted = sorted(self._wanted)
        place = bisect_left(self._sorted, start)
        if place < len(self._sorted) and self._sorted[place].startswith(start):
            if len(self._done) >= _REMEMBERED:
                self._done.clear()  # only time is lost
            self._done.add(mark)
        while place < len(self._sorted) and self._sorted[place].startswith(start):
            yield self._sorted[place]
            place += 1


def _plan(column: ColumnSpec) -> _Plan:
    rules, templates = compiled(column.rules), column.rules.derivatives
    return _Plan(column, rules, templates, (column.format, rules, templates))


def _texts(value: object) -> Iterator[str]:
    """The texts of any value; one for all of a document, since keys may be composed of several of its strings."""
    if isinstance(value, dict | list | tuple | set | frozenset):
        yield "\n".join(strings_in(value))
    else:
        yield from (text for text, _ in texts_of(value))


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:_SHOWN]).decode("utf-8", "replace")
    return str(value)[:_SHOWN]


def _derived_starts(prefix: str, template: str) -> list[str]:
    """Return texts with one of which every key starts that `template` makes of a key under `prefix`."""
    literal, part, _, _ = next(iter(Formatter().parse(template)))
    folder = prefix[: prefix.rfind("/") + 1]
    name = prefix[len(folder) :]
    if part == "key":
        starts = [prefix]
    elif part == "stem":
        # The prefix may end inside the extension, which the stem lacks.
        starts = [prefix, *(folder + name[:place] for place, c in enumerate(name) if c == ".")]
    elif part == "dir":
        starts = [folder]
    else:
        starts = [""]
    return list(dict.fromkeys(literal + start for start in starts))


def _is_made_under(prefix: str, template: str, key: str) -> bool:
    """Whether `template` could have made `key` of a key under `prefix`; true when the parent is not known enough."""
    readings = splits(key, template)
    if readings is None:
        return True
    for fields in readings:
        if "key" in fields:
            parent, is_whole = fields["key"], True
        elif "stem" in fields:
            parent, is_whole = fields["stem"] + fields.get("ext", ""), "ext" in fields
        elif "dir" in fields:
            parent, is_whole = fields["dir"] + fields.get("name", ""), "name" in fields
        else:
            return True
        if parent.startswith(prefix) or (not is_whole and prefix.startswith(parent)):
            return True
    return False
