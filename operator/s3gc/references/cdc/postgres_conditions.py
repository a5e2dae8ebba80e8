"""Whether a policy's `where` depends on nothing but the row, on PostgreSQL.

A row that comes to satisfy it because time went by, or because another table changed, is in no log. So only words
that are known to look at the row alone are let through: its columns, comparisons, and a handful of functions. No, when
in doubt: the column is then read again in place of being followed, which costs time and no file.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["what_may_change"]

_TOKEN = re.compile(
    r"""\s+
    | (?P<text>'(?:[^']|'')*')                    # a literal without escapes
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<word>[^\W\d][\w]*)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<sign>::|[=<>!+*/%|~(),.-]|\[|\])
    """,
    re.VERBOSE,
)
_WORDS = frozenset({
    "and", "or", "not", "in", "is", "null", "true", "false", "unknown", "like", "ilike", "similar", "to", "between",
    "symmetric", "distinct", "from", "any", "all", "case", "when", "then", "else", "end", "isnull", "notnull", "escape",
})  # fmt: skip
#: Followed by a bracket, these are no functions.
_BEFORE_BRACKETS = frozenset({
    "and", "or", "not", "in", "any", "all", "when", "then", "else", "case", "between", "like", "ilike", "is", "from",
})  # fmt: skip
#: Of the row alone, whatever the session's settings.
_FUNCTIONS = frozenset({
    "lower", "upper", "length", "char_length", "coalesce", "nullif", "trim", "btrim", "ltrim", "rtrim", "substr",
    "replace", "abs",
})  # fmt: skip
_TYPES = frozenset({
    "text", "varchar", "int", "int2", "int4", "int8", "integer", "bigint", "smallint", "numeric", "bool", "boolean",
    "uuid",
})  # fmt: skip
#: Anywhere in a literal, these may be the clock to a date or a timestamp: 'today 04:00' is one.
_CLOCK = re.compile(r"now|today|tomorrow|yesterday|allballs", re.IGNORECASE)
#: Mean themselves without quotes, even where a column is called so.
_RESERVED = re.compile(
    r"select|table|values|with|exists|user|session_user|system_user|current_\w+|local(?:time|timestamp)",
    re.IGNORECASE,
)


def what_may_change(condition: str, columns: Collection[str]) -> str:
    """Return the first thing in `condition` that is not known to depend on the row alone, or "".

    `columns` are all names that a row has; names of the table may be among them.
    """
    if "\\" in condition:
        return "\\"  # whether it escapes the quote that follows it is a setting of the server's
    names, at = set(columns), 0
    before = ""
    while at < len(condition):
        match = _TOKEN.match(condition, at)
        if match is None or condition.startswith(("--", "/*"), at):
            return condition[at : at + 20].strip()
        at = match.end()
        rest = condition[at:].lstrip()
        if (text := match["text"]) is not None:
            if _CLOCK.search(text) or before == "word" or rest.startswith("'"):
                return text  # a word before it: a type, as in date 'today'; 'no' and 'w' on two lines are one literal
        elif (quoted := match["quoted"]) is not None:
            if rest.startswith("(") or quoted[1:-1].replace('""', '"') not in names:
                return quoted
        elif (word := match["word"]) is not None:
            lower = word.lower()
            if before == "::":
                is_known = lower in _TYPES and not rest.startswith("(")
            elif rest.startswith("("):
                is_known = lower in _FUNCTIONS or lower in _BEFORE_BRACKETS
            else:
                is_known = lower in _WORDS or (lower in names and not _RESERVED.fullmatch(lower))
            if not is_known:
                return f"{word}(" if rest.startswith("(") else word
            before = "word" if lower not in _WORDS else ""
            continue
        if match.lastgroup is not None:
            before = match["sign"] or ""
    return ""
