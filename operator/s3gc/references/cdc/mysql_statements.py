"""What a statement in the binary log means for change capture: nothing, or the end of it.

In ROW format the log holds rows; what it holds as text is transaction control, DDL and administration. Text that
changes rows (a session may write in STATEMENT format) says nothing about *which* rows, and DDL on a watched table
changes what its rows mean; either ends the capture. So does every verb that is not known to be harmless: a statement
too many ends one cycle's deletions, one too few could hide a reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["XA", "obstacle", "xa_of"]

#: Transaction control. What a savepoint takes back is not in the log at all.
_CONTROL = re.compile(
    r"(?:BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE\s+SAVEPOINT|START\s+TRANSACTION|XA)\b", re.IGNORECASE
)
#: Changes neither rows nor what a row's bytes mean, whichever table it names.
_HARMLESS = re.compile(
    r"(?:ANALYZE|CHECK|FLUSH|GRANT|REVOKE|SET(?!\s+STATEMENT)|USE|KILL|PURGE|INSTALL|UNINSTALL"
    r"|(?:CREATE(?:\s+OR\s+REPLACE)?|ALTER|DROP|RENAME)\s+(?:USER|ROLE|SERVER|EVENT)\b"
    r"|(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+(?:DEFINER\s*=\s*\S+\s+)?(?:EVENT|PROCEDURE|FUNCTION|AGGREGATE)\b)",
    re.IGNORECASE,
)
#: Concerns the tables that it names (a foreign key or a trigger of theirs included), and no others.
_DDL = re.compile(
    r"(?:CREATE|ALTER|DROP|RENAME|TRUNCATE|OPTIMIZE|REPAIR|START\s+ALTER|COMMIT\s+ALTER)\b", re.IGNORECASE
)
#: Only at the start (tracers put them there): further on the same signs may stand inside a name or a literal.
_COMMENT = re.compile(r"(?:\s*(?:/\*(?!!|M!)[\s\S]*?\*/|(?:--[ \t]|#)[^\n]*(?:\n|$)))+")
_VERSIONED = re.compile(r"/\*M?!\d*|\*/")
_SHOWN = 120

#: How a prepared transaction is named in the log: ``X'71',X'',1``.
XA = re.compile(r"XA\s+(COMMIT|ROLLBACK|END|PREPARE)\s+(X'[^']*'\s*,\s*X'[^']*'\s*,\s*\d+)", re.IGNORECASE)


def xa_of(statement: str) -> tuple[str, str] | None:
    """Return (verb, name) of a statement about a prepared transaction, else None."""
    found = XA.match(statement.strip())
    return (found[1].upper(), re.sub(r"\s", "", found[2]).lower()) if found else None


def obstacle(statement: str, schema: str, watched: Iterable[tuple[str, str]]) -> str:
    """Return why the stream cannot be believed after `statement`, which ran with default database `schema`; or "".

    `watched` are the tables (schema, name) whose rows are followed.
    """
    # The server writes names of its own into comments that only servers read: they are part of the statement.
    text = _VERSIONED.sub(
        " ", statement[found.end() :] if (found := _COMMENT.match(statement)) else statement
    )
    text = text.strip().lstrip("(").strip()
    if not text or _CONTROL.match(text) or _HARMLESS.match(text):
        return ""
    if not _DDL.match(text):
        return (
            f"a statement was logged as text instead of rows ({_shown(text)}): the session that wrote it does not use "
            "binlog_format=ROW, so which rows it changed is not known"
        )
    for watched_schema, table in watched:
        if _names(text, schema, watched_schema, table):
            return f"{watched_schema}.{table} or its schema was changed ({_shown(text)})"
    return ""


def _names(text: str, default: str, schema: str, table: str) -> bool:
    """Whether `text` could name the table: by itself in its schema, or qualified; or the whole schema."""
    part = r"(?:`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[^\s`\".,;()=]+)"
    wanted = {table.casefold(), table.replace("`", "``").casefold()}
    for found in re.finditer(rf"(?:({part})\s*\.\s*)?({part})", text):
        qualifier, name = (_bare(word) for word in found.groups())
        if name in wanted and (qualifier or default.casefold()) == schema.casefold():
            return True
    word = re.escape(schema)
    return bool(
        re.match(rf"\w+\s+(?:DATABASE|SCHEMA)\b.*(?<!\w){word}(?!\w)", text, re.IGNORECASE | re.DOTALL)
    )


def _bare(word: str | None) -> str:
    return (word or "").strip('`"').casefold()


def _shown(text: str) -> str:
    """The start of a statement on one line; never its literals, which are somebody's data."""
    line = " ".join(re.sub(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"", "'…'", text).split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
