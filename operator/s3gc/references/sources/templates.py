"""Keys composed from the columns of a row: ``avatars/{tenant_id}/{id}.jpg``.

A part may name filters: ``{id:nodash}``, ``{name:basename|lower}``. A row whose part is NULL names no single
object, so it becomes a reference to everything under the text before that part: one too many keeps an orphan.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from s3gc.references.types import PrefixReference

__all__ = ["FILTERS", "Template", "empty_prefix_problem", "is_empty_prefix", "parse_template"]


def _idpart(value: str) -> str:
    """Split as Paperclip's ``id_partition``: 123 -> 000/000/123, a text -> its first nine characters in threes."""
    if value.isascii() and value.isdigit():
        padded = value.zfill(9 if len(value) <= 9 else -(-len(value) // 3) * 3)
        return "/".join(re.findall("...", padded))
    return "/".join(re.findall("...", value)[:3])


FILTERS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "basename": lambda value: value.rsplit("/", 1)[-1],
    "nodash": lambda value: value.replace("-", ""),
    "idpart": _idpart,
}


@dataclass(frozen=True, slots=True)
class _Hole:
    column: int  # place in `Template.columns`
    filters: tuple[Callable[[str], str], ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `columns` are the names it reads, each once, in the order that `compose` wants a row."""

    text: str
    columns: tuple[str, ...]
    start: str  # text before the first part
    holes: tuple[tuple[_Hole, str], ...]  # a part and the text that follows it

    def compose(self, row: Sequence[str | None]) -> str:
        """Return the key of `row`, or a PrefixReference when a part is NULL."""
        out = self.start
        for hole, rest in self.holes:
            value = row[hole.column]
            if value is None:
                return PrefixReference(out)
            for function in hole.filters:
                value = function(value)
            out += value + rest
        return out

    @property
    def needs_first(self) -> bool:
        """Whether a NULL in the first part would reference the whole bucket."""
        return is_empty_prefix(self.start)


def is_empty_prefix(prefix: str) -> bool:
    """Whether `prefix` is empty once a key's leading ``/`` and ``./`` are gone: a reference to everything."""
    return not prefix.strip("./")


def empty_prefix_problem(label: str, column: str, rows: int) -> str:
    """Say that a template would reference the whole bucket: which column is NULL, and in how many rows."""
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    return (
        f"{label}: column {column!r} is NULL in {counted}, and nothing stands before it in the template, so each would "
        "reference every object; exclude them with where, or put a fixed prefix into the template"
    )


def parse_template(text: str) -> tuple[Template | None, list[str]]:
    """Return the template and what is wrong with it; the template is None when anything is."""
    problems: list[str] = []
    columns: list[str] = []
    literals: list[str] = [""]
    holes: list[_Hole] = []
    for literal, name, spec, conversion in string.Formatter().parse(text):
        literals[-1] += literal
        if name is None:
            continue
        if conversion:
            problems.append(
                f"template {text!r}: !{conversion} is not known; filters are written {{column:lower}}"
            )
        filters: list[Callable[[str], str]] = []
        for wanted in filter(None, (part.strip() for part in (spec or "").split("|"))):
            if wanted in FILTERS:
                filters.append(FILTERS[wanted])
            else:
                problems.append(
                    f"template {text!r}: there is no filter {wanted!r}; known: {', '.join(FILTERS)}"
                )
        if name not in columns:
            columns.append(name)
        holes.append(_Hole(columns.index(name), tuple(filters)))
        literals.append("")
    if not holes:
        problems.append(f"template {text!r} has no {{column}} in it")
    if problems:
        return None, problems
    pairs = tuple(zip(holes, literals[1:], strict=True))
    return Template(text=text, columns=tuple(columns), start=literals[0], holes=pairs), []
