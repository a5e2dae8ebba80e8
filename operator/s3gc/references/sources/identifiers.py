"""Names in a policy, matched against names in a catalog.

What a person writes (``users``, ``public.Users``, ``"Weird.Name"``) is never put into a statement. It is looked
up in the database's own catalog, and only what the catalog says is quoted and used. So a name can hold quotes,
dots, semicolons or capitals, and a typing error is answered with the nearest names that exist.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Dialect", "Found", "Part", "find_column", "find_table", "nearest", "readings"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a database writes and compares names. `quotes` maps an opening quote to its closing one."""

    quotes: Mapping[str, str]
    #: PostgreSQL folds an unquoted name to lower case; the others compare names without case.
    folds_to_lower: bool

    def quote(self, name: str) -> str:
        """Return `name` as an identifier: quoted, with the quote in it doubled."""
        opening, closing = next(iter(self.quotes.items()))
        if "\0" in name:
            raise ValueError("a name holds a NUL character")
        return f"{opening}{name.replace(closing, closing * 2)}{closing}"

    def also_means(self, part: Part, name: str) -> bool:
        """Whether `part`, which differs from `name`, means it by the rules of case."""
        if self.folds_to_lower:
            return not part.quoted and part.text.lower() == name
        return part.text.casefold() == name.casefold()


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What a name stands for, or `problem`: a sentence that says why it stands for nothing."""

    value: T | None
    problem: str = ""


def readings(text: str, dialect: Dialect, most: int = 3) -> list[tuple[Part, ...]]:
    """Every way to read `text` as a dotted name of at most `most` parts, the most qualified first.

    A dot inside quotes never separates; a dot outside may, or may belong to the name itself.
    """
    pieces = list(_pieces(text, dialect))
    found: list[tuple[Part, ...]] = []
    for parts in range(min(most, len(pieces)), 0, -1):
        for cuts in itertools.combinations(range(1, len(pieces)), parts - 1):
            bounds = [0, *cuts, len(pieces)]
            reading = tuple(_part(pieces[a:b], dialect) for a, b in itertools.pairwise(bounds))
            if all(part.text for part in reading):
                found.append(reading)
    return found


def _pieces(text: str, dialect: Dialect) -> Iterator[str]:
    start = position = 0
    while position < len(text):
        closing = dialect.quotes.get(text[position]) if position == start else None
        if closing is not None and (end := _closing(text, position + 1, closing)) > 0:
            position = end
        elif text[position] == ".":
            yield text[start:position]
            start = position = position + 1
        else:
            position += 1
    yield text[start:]


def _closing(text: str, position: int, closing: str) -> int:
    """Return the place after the quote that ends a quoted name, or -1 where it does not end a part."""
    while (position := text.find(closing, position)) >= 0:
        if text[position + 1 : position + 2] == closing:
            position += 2
        elif text[position + 1 : position + 2] in ("", "."):
            return position + 1
        else:
            return -1
    return -1


def _part(pieces: Sequence[str], dialect: Dialect) -> Part:
    text = ".".join(pieces)
    closing = dialect.quotes.get(text[:1])
    if closing is not None and len(pieces) == 1 and len(text) > 2 and _closing(text, 1, closing) == len(text):
        return Part(text[1:-1].replace(closing * 2, closing), quoted=True)
    return Part(text)


def _matching(part: Part, names: Iterable[str], dialect: Dialect) -> list[str]:
    names = list(names)
    exact = [part.text] if part.text in names else []
    return exact + [name for name in names if name != part.text and dialect.also_means(part, name)]


def find_table(
    text: str,
    catalog: Mapping[tuple[str, str], T],
    search_path: Sequence[str],
    database: str,
    dialect: Dialect,
) -> Found[T]:
    """Return the entry of `catalog` (by schema and name) that `text` names.

    An unqualified name is looked for along `search_path`, in the first schema that has it.
    """
    schemas = {schema for schema, _ in catalog}
    by_schema: dict[str, list[str]] = {}
    for schema, name in catalog:
        by_schema.setdefault(schema, []).append(name)
    hits: dict[tuple[str, str], None] = {}
    for reading in readings(text, dialect):
        if len(reading) == 3 and not _matching(reading[0], [database], dialect):
            continue
        table = reading[-1]
        if len(reading) == 1:
            for schema in search_path:
                if names := _matching(table, by_schema.get(schema, ()), dialect):
                    hits.update({(schema, name): None for name in names})
                    break
        else:
            for schema in _matching(reading[-2], schemas, dialect):
                hits.update({(schema, name): None for name in _matching(table, by_schema[schema], dialect)})
    if len(hits) == 1:
        return Found(catalog[next(iter(hits))])
    if hits and not dialect.folds_to_lower:
        return Found(
            catalog[next(iter(hits))]
        )  # names of one letter case are one name there; the exact comes first
    if hits:
        quoted = " or ".join(f"{dialect.quote(schema)}.{dialect.quote(name)}" for schema, name in hits)
        return Found(None, f"{text!r} could be {quoted}: write the one you mean, with its quotes")
    return Found(None, _no_such_table(text, catalog, search_path, dialect))


def _no_such_table(
    text: str, catalog: Mapping[tuple[str, str], T], search_path: Sequence[str], dialect: Dialect
) -> str:
    last = readings(text, dialect)[0][-1] if text.strip(".") else Part(text)
    elsewhere = sorted(
        f"{schema}.{name}" for schema, name in catalog if name == last.text or dialect.also_means(last, name)
    )
    path = ", ".join(search_path) or "empty"
    if elsewhere:
        return f"there is no table {text!r} (search path: {path}); did you mean {_alternatives(elsewhere)}?"
    full = {f"{schema}.{name}" for schema, name in catalog}
    close = nearest(text, full) or [
        f"{schema}.{name}"
        for close_name in nearest(last.text, {name for _, name in catalog})
        for schema, name in catalog
        if name == close_name
    ]
    if close:
        return f"there is no table {text!r} (search path: {path}); did you mean {_alternatives(close)}?"
    known = (
        f"schemas with tables: {', '.join(sorted({s for s, _ in catalog})[:8])}"
        if catalog
        else "there is no table at all"
    )
    return f"there is no table {text!r} (search path: {path}; {known})"


def find_column(text: str, columns: Mapping[str, T], table: str, dialect: Dialect) -> Found[T]:
    """Return the entry of `columns` that `text` names in `table` (a label for messages)."""
    names: dict[str, None] = {}
    for reading in readings(text, dialect, most=1):
        names.update(dict.fromkeys(_matching(reading[0], columns, dialect)))
    if text in columns and not dialect.folds_to_lower:
        return Found(columns[text])
    if len(names) == 1:
        return Found(columns[next(iter(names))])
    if names:
        quoted = " or ".join(dialect.quote(name) for name in names)
        return Found(
            None, f"{table}: column {text!r} could be {quoted}: write the one you mean, with its quotes"
        )
    close = nearest(text, columns)
    if close:
        return Found(None, f"{table} has no column {text!r}; did you mean {_alternatives(close)}?")
    shown = ", ".join(sorted(columns)[:12]) + (", …" if len(columns) > 12 else "")
    return Found(None, f"{table} has no column {text!r}; it has: {shown or 'none'}")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three of `names` that look like `name`, the nearest first, whatever their case."""
    lowered: dict[str, str] = {}
    for candidate in names:
        lowered.setdefault(candidate.lower(), candidate)
    return [lowered[found] for found in difflib.get_close_matches(name.lower(), lowered, 3, 0.6)]


def _alternatives(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:4]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
