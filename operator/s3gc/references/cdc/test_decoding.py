"""The lines of PostgreSQL's `test_decoding`, taken apart: which table, which columns, which values as text.

``table public."T": UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 "n m"[text]:'it''s' j[jsonb]:null``

Source of the rules: contrib/test_decoding.c (`tuple_to_stringinfo`, `print_literal`): names as quote_identifier
writes them, types as format_type_be does, values by the type's own output function: numbers bare, bits as B'…',
booleans as words, everything else in single quotes with only these doubled. What does not fit raises ValueError: a
line that is not understood could be a reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = ["Message", "Row", "Unchanged", "array_elements", "parse"]


class Unchanged(Enum):
    """In place of a value that was stored apart (TOAST) and that an UPDATE left as it was."""

    TOAST = "unchanged-toast-datum"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as an INSERT or UPDATE left it. `table` is the name as it is quoted in SQL, with its schema."""

    table: str
    values: dict[str, str | Unchanged | None]


@dataclass(frozen=True, slots=True)
class Message:
    prefix: str
    content: str


_NAME = r'(?:"(?:[^"]|"")*"|[^\s":.\[\],]+)'
_TABLE = re.compile(rf"table ({_NAME}\.{_NAME}): (INSERT|UPDATE|DELETE): ")
_TRUNCATE = re.compile(rf"table {_NAME}\.{_NAME}(?:, {_NAME}\.{_NAME})*: TRUNCATE: ")
_COLUMN = re.compile(rf'({_NAME})\[((?:"(?:[^"]|"")*"|\[\]|[^"\[\]])*)\]:')
_MESSAGE = re.compile(r"message: transactional: [01] prefix: (.*?), sz: (\d+) content:", re.DOTALL)
_BARE = re.compile(r"[^\s']+")
_NEW = "new-tuple: "
_UNCHANGED = Unchanged.TOAST.value


def parse(line: str) -> Row | Message | None:
    """Return what `line` says; None for what leaves no row: BEGIN, COMMIT, DELETE, TRUNCATE. ValueError in doubt."""
    if line.startswith(("BEGIN", "COMMIT", "PREPARE TRANSACTION", "ROLLBACK PREPARED")):
        return None
    if (found := _MESSAGE.match(line)) is not None:
        return Message(found[1], line[found.end() :])
    if _TRUNCATE.match(line) is not None:
        return None
    if (found := _TABLE.match(line)) is None:
        raise ValueError(f"not a line of test_decoding: {line[:80]!r}")
    if found[2] == "DELETE":
        return None
    at = found.end()
    if line.startswith("old-key: ", at):
        # The old key's values are printed in the same way, so they are read to know where they end.
        _, at = _columns(line, at + len("old-key: "), until=_NEW)
        at += len(_NEW)
    if line.startswith("(no-tuple-data)", at):
        raise ValueError(f"a row without values in {found[1]}")
    values, at = _columns(line, at, until="")
    if at != len(line):
        raise ValueError(f"something follows the values of {found[1]}")
    return Row(found[1], values)


def _columns(line: str, at: int, *, until: str) -> tuple[dict[str, str | Unchanged | None], int]:
    """Read ``name[type]:value`` from `at` to the end, or to `until`; return the values and where that is."""
    values: dict[str, str | Unchanged | None] = {}
    while at < len(line) and not (until and line.startswith(until, at)):
        found = _COLUMN.match(line, at)
        if found is None:
            raise ValueError(f"no column at character {at} of a line of {len(line)}")
        name = found[1][1:-1].replace('""', '"') if found[1].startswith('"') else found[1]
        values[name], at = _value(line, found.end())
        if at < len(line):
            if line[at] != " ":
                raise ValueError(f"column {name!r} does not end at character {at}")
            at += 1
    return values, at


def _value(line: str, at: int) -> tuple[str | Unchanged | None, int]:
    if line.startswith("B'", at):
        end = line.index("'", at + 2)
        return line[at + 2 : end], end + 1
    if line.startswith("'", at):
        start = at + 1
        end = start
        while True:
            end = line.index("'", end)
            if not line.startswith("''", end):
                return line[start:end].replace("''", "'"), end + 1
            end += 2
    found = _BARE.match(line, at)
    if found is None:
        raise ValueError(f"no value at character {at}")
    match found[0]:
        case "null":
            return None, found.end()
        case text if text == _UNCHANGED:
            return Unchanged.TOAST, found.end()
        case text:
            return text, found.end()


def array_elements(text: str) -> list[str | None]:
    """Return the elements of an array's text form, nested ones in one list; ValueError when it is none.

    Source of the rules: "Array Input and Output Syntax" of PostgreSQL's manual.
    """
    if text.startswith("["):  # bounds other than from 1: [0:2]={a,b,c}
        text = text.partition("=")[2]
    if not text.startswith("{"):
        raise ValueError("not an array")
    elements: list[str | None] = []
    at = 0
    while at < len(text):
        if text[at] in "{},":
            at += 1
        elif text[at] == '"':
            parts: list[str] = []
            at += 1
            while text[at] != '"':
                at += text[at] == "\\"
                parts.append(text[at])
                at += 1
            elements.append("".join(parts))
            at += 1
        else:
            found = re.compile(r"[^{},]+").match(text, at)
            assert found is not None  # noqa: S101  the character is none of these
            elements.append(None if found[0] == "NULL" else found[0].replace("\\", ""))
            at = found.end()
    return elements
