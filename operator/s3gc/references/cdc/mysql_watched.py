"""Which of a source's columns the binary log shows, and where in a row; the others are read again instead.

Left out is what can change without a row in the log (a query, a view, a child of ON UPDATE CASCADE, a `where` that
time or another table decides), and what the log does not hold as a SELECT shows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from s3gc.exceptions import CDCError
from s3gc.references.cdc.mysql_rows import LoggedColumn, WatchedTable, words_of
from s3gc.references.sources.mysql_catalog import Column, Table, literal
from s3gc.references.sources.mysql_plan import Item, Plan
from s3gc.references.sources.mysql_session import Session

__all__ = ["is_of_the_row", "watched_tables"]

_KEY = re.compile(
    r"FOREIGN KEY \((?P<columns>[^)]*)\) REFERENCES (?P<parent>`(?:[^`]|``)+`(?:\.`(?:[^`]|``)+`)?) "
    r"\((?P<referenced>[^)]*)\)(?P<actions>[^\n]*)"
)
_NAME = re.compile(r"`((?:[^`]|``)+)`")


async def watched_tables(session: Session, plan: Plan) -> tuple[list[WatchedTable], dict[int, str]]:
    """Return (the tables of `plan` as the log has them, index of each item that the log cannot show -> why).

    Items of the second kind are read again instead; they are in none of the tables. Raises CDCError when a column is
    not what `plan` was made with.
    """
    left: dict[int, str] = {}
    items: dict[tuple[str, str], list[Item]] = {}
    for item in plan.items:
        if item.table is None:
            left[item.spec.index] = "a query's rows are not in the binary log"
        elif item.table.is_view:
            left[item.spec.index] = "a view's rows are not in the binary log"
        elif item.table.kind == "SYSTEM VERSIONED":
            left[item.spec.index] = "the log shows the history of a system versioned table as rows"
        elif item.condition and not is_of_the_row(item.condition, item.table):
            left[item.spec.index] = "its where may change without the row: by time, or with other tables"
        else:
            items.setdefault((item.table.schema, item.table.name), []).append(item)
    tables: list[WatchedTable] = []
    for (schema, name), some in items.items():
        columns = await _logged_columns(session, schema, name, some, left)
        tables.append(WatchedTable(schema, name, columns, tuple(some)))
    before = -1
    while len(left) != before:  # one that is left out may be the parent of another
        before = len(left)
        for table in tables:
            await _leave_cascades(session, table, plan, left)
    followed: list[WatchedTable] = []
    for table in tables:
        kept = tuple(item for item in table.items if item.spec.index not in left)
        names = {column.name for item in kept for column in _read_by(item)}
        if kept:
            columns = {name: logged for name, logged in table.columns.items() if name in names}
            followed.append(WatchedTable(table.schema, table.name, columns, kept))
    return followed, left


def _read_by(item: Item) -> tuple[Column, ...]:
    return item.parts if item.template is not None else (item.column,) if item.column is not None else ()


async def _logged_columns(
    session: Session, schema: str, name: str, items: Sequence[Item], left: dict[int, str]
) -> dict[str, LoggedColumn]:
    found: dict[str, LoggedColumn] = {}
    obstacles: dict[str, str] = {}
    unreadable = ""
    declared = {column.name: column for item in items for column in _read_by(item)}
    generated = "generation_expression" if not session.is_mariadb else "IF(is_generated = 'ALWAYS', 'x', '')"
    for place, column, kind, full_type, charset, null, default, extra, expression in await session.rows(
        "SELECT ordinal_position, column_name, data_type, column_type, character_set_name, is_nullable, "
        f"column_default, extra, {generated} "
        "FROM information_schema.columns "
        f"WHERE table_schema = {literal(schema)} AND table_name = {literal(name)} ORDER BY ordinal_position"
    ):
        if "compressed" in str(full_type).lower():
            unreadable = f"its table's column {column} is COMPRESSED, so rows cannot be read"
        if str(column) not in declared:
            continue
        here = Column(
            str(column), str(kind).lower(), str(full_type), str(charset or ""), str(null).upper() == "NO"
        )
        if here != declared[str(column)]:
            raise CDCError(f"{schema}.{name}.{column} was changed after it was checked")
        value, is_expression = _default(session, default, str(extra))
        if value is None and str(full_type).startswith("enum(") and declared[str(column)].not_null:
            value = words_of(str(full_type))[0]  # what a server that is not strict puts in
        logged = found[str(column)] = LoggedColumn(
            column=declared[str(column)],
            place=int(place) - 1,
            default=value,
            has_expression_default=is_expression,
            is_generated=bool(expression)
            or "GENERATED" in str(extra).upper().replace("DEFAULT_GENERATED", ""),
        )
        if "VIRTUAL" in str(extra).upper():
            obstacles[str(column)] = "is computed when it is read (VIRTUAL)"
        elif logged.obstacle:
            obstacles[str(column)] = logged.obstacle
    for item in items:
        for column in _read_by(item):
            if column.name in obstacles:
                left[item.spec.index] = f"column {column.name} {obstacles[column.name]}"
            elif column.name not in found:
                left[item.spec.index] = f"the catalog does not tell the place of column {column.name}"
        if unreadable:
            left[item.spec.index] = unreadable
    return found


#: What a condition of one row may be made of, beside its columns, literals and operators.
_ROW_WORDS = frozenset(
    {
        "and",
        "or",
        "not",
        "xor",
        "is",
        "null",
        "in",
        "like",
        "rlike",
        "regexp",
        "between",
        "true",
        "false",
        "div",
        "mod",
    }
    | {"binary", "escape", "unknown", "collate", "case", "when", "then", "else", "end", "as", "char"}
)
_ROW_FUNCTIONS = frozenset(
    {
        "and",
        "or",
        "not",
        "in",
        "like",
        "between",
        "when",
        "then",
        "else",
        "case",
        "char",
        "coalesce",
        "ifnull",
        "nullif",
    }
    | {
        "lower",
        "upper",
        "lcase",
        "ucase",
        "trim",
        "ltrim",
        "rtrim",
        "length",
        "char_length",
        "concat",
        "substring",
    }
    | {"substr", "left", "right", "replace", "json_extract", "json_unquote", "json_value", "json_valid", "if"}
)
_WORD = re.compile(
    r"""--|/\*|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)+`|\d[\w.]*|[^\W\d]\w*|\S""", re.DOTALL
)


def is_of_the_row(condition: str, table: Table) -> bool:
    """Whether `condition` depends on nothing but the row; no, when in doubt.

    A row that comes to satisfy it because time went by, or because another table changed, is not in the log.
    """
    if "\\" in condition or "@" in condition:
        return False  # what a backslash means depends on sql_mode
    names = {name.casefold() for name in table.columns} | {table.name.casefold(), table.schema.casefold()}
    words = _WORD.findall(condition)
    for word, after in zip(words, [*words[1:], ""], strict=True):
        bare = word.casefold()
        if word in ("--", "/*", "#"):
            return False  # a comment may hold the quote that opens a text, and hide what follows it
        if word[0].isdigit():
            if after == "(":
                return False  # a name may begin with a digit
        elif word[0] == "`":
            if after == "(" or bare[1:-1].replace("``", "`") not in names:
                return False
        elif (word[0].isalpha() or word[0] == "_") and bare not in (
            _ROW_FUNCTIONS if after == "(" else names | _ROW_WORDS
        ):
            return False
    return True


def _default(session: Session, default: object, extra: str) -> tuple[str | None, bool]:
    """Return (the literal default, whether it is an expression)."""
    if default is None:
        return None, False
    text = str(default)
    if not session.is_mariadb:
        return (None, True) if "DEFAULT_GENERATED" in extra.upper() else (text, False)
    if text == "NULL":
        return None, False
    if len(text) >= 2 and text[0] == text[-1] == "'":  # MariaDB writes them as SQL
        return text[1:-1].replace("''", "'").replace("\\\\", "\\"), False
    return (text, False) if re.fullmatch(r"-?[\d.]+", text) else (None, True)


async def _leave_cascades(session: Session, table: WatchedTable, plan: Plan, left: dict[int, str]) -> None:
    """Leave out what a foreign key changes without a row in the log.

    InnoDB carries such changes out by itself, below the log. The statement that made the table says it to everybody
    who may read it; information_schema tells it only to those who may also write.
    """
    await session.rows("SET SESSION sql_mode = '', sql_quote_show_create = 1")
    ((_, text),) = await session.rows(f"SHOW CREATE TABLE `{_quoted(table.schema)}`.`{_quoted(table.name)}`")
    for key in _KEY.finditer(str(text)):
        actions = key["actions"].upper()
        parent = [_unquoted(name) for name in _NAME.findall(key["parent"])]
        schema, parent_table = parent if len(parent) == 2 else (table.schema, parent[0])
        referenced = [_unquoted(name) for name in _NAME.findall(key["referenced"])]
        for column, target in zip(map(_unquoted, _NAME.findall(key["columns"])), referenced, strict=True):
            what = (
                f"column {column} changes with {schema}.{parent_table}.{target} (foreign key), below the log"
            )
            for item in table.items:
                if column not in {part.name for part in _read_by(item)}:
                    continue
                if item.template is None and ("ON UPDATE CASCADE" not in actions or "SET DEFAULT" in actions):
                    is_hidden = "SET DEFAULT" in actions  # NULL references nothing
                elif item.template is None:
                    is_hidden = not _is_declared(plan, item, schema, parent_table, target, left)
                    what += "; declare that one with the same format, and it need not be"
                else:
                    is_hidden = any(
                        word in actions for word in ("ON UPDATE CASCADE", "SET NULL", "SET DEFAULT")
                    )
                if is_hidden:
                    left[item.spec.index] = what


def _is_declared(
    plan: Plan, child: Item, schema: str, table: str, column: str, left: Mapping[int, str]
) -> bool:
    """Whether the parent's column is followed by the same rules, so that its own row says what the child becomes.

    Where that one is left out as well, both are read again.
    """
    return any(
        item.table is not None
        and item.column is not None
        and (item.table.schema, item.table.name, item.column.name) == (schema, table, column)
        and (item.spec.format, item.spec.rules) == (child.spec.format, child.spec.rules)
        for item in plan.items
        if item.template is None and item.spec.index not in left
    )


def _quoted(name: str) -> str:
    return name.replace("`", "``")


def _unquoted(name: str) -> str:
    return name.replace("``", "`")
