"""What must hold before rows of the binary log may stand for a second reading, found out before any work.

Each thing that would make a change invisible in the log is looked for by name, and refused with the way on. The
settings are asked for again at every fence, for any of them can be changed while a cycle runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import asyncmy.errors

from s3gc.exceptions import CDCError
from s3gc.references.cdc.mysql_position import written_position
from s3gc.references.cdc.mysql_rows import LoggedColumn, WatchedTable, words_of
from s3gc.references.sources.mysql_catalog import Column, Server, literal
from s3gc.references.sources.mysql_plan import Item, Plan
from s3gc.references.sources.mysql_session import Session

__all__ = ["refusals_of_rights", "refusals_of_settings", "watched_tables"]

_PARTIAL = ("MINIMAL", "NOBLOB")
_VARIABLES = (
    "log_bin", "binlog_format", "binlog_row_image", "log_bin_compress", "binlog_transaction_compression",
    "binlog_row_value_options", "log_slave_updates", "log_replica_updates", "lower_case_table_names", "wsrep_on",
    "gtid_mode",
)  # fmt: skip
_KEY = re.compile(
    r"FOREIGN KEY \((?P<columns>[^)]*)\) REFERENCES (?P<parent>`(?:[^`]|``)+`(?:\.`(?:[^`]|``)+`)?) "
    r"\((?P<referenced>[^)]*)\)(?P<actions>[^\n]*)"
)
_NAME = re.compile(r"`((?:[^`]|``)+)`")


async def refusals_of_settings(session: Session, tables: Sequence[WatchedTable]) -> list[str]:
    """Return every setting of this server that would hide changes of `tables`, each with what to do."""
    listed = ", ".join(f"'{name}'" for name in _VARIABLES)
    found = {
        str(name).lower(): str(value)
        for name, value in await session.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
    }
    wrong: list[str] = []
    if not _is_on(found.get("log_bin", "OFF")):
        return [
            "log_bin is off, so there is no binary log: start the server with log_bin (providers: switch backups on)"
        ]
    if (form := found.get("binlog_format", "ROW").upper()) != "ROW":
        wrong.append(
            f"binlog_format is {form}, which logs statements instead of rows: SET GLOBAL binlog_format = ROW"
        )
    image = found.get("binlog_row_image", "FULL").upper()
    unfit = next((table.unfit_for_partial_images for table in tables if table.unfit_for_partial_images), "")
    if image in _PARTIAL and unfit:
        wrong.append(f"binlog_row_image is {image}, and {unfit}: SET GLOBAL binlog_row_image = FULL")
    elif image not in ("FULL", *_PARTIAL):
        wrong.append(
            f"binlog_row_image is {image}, which is not known here: SET GLOBAL binlog_row_image = FULL"
        )
    wrong += [
        f"{name} is on, and compressed events cannot be read: SET GLOBAL {name} = OFF"
        for name in ("log_bin_compress", "binlog_transaction_compression")
        if _is_on(found.get(name, "OFF"))
    ]
    if found.get("binlog_row_value_options", ""):
        wrong.append(
            "binlog_row_value_options is set, so an UPDATE of JSON logs only a part: "
            "SET GLOBAL binlog_row_value_options = ''"
        )
    if found.get("lower_case_table_names") == "2":
        wrong.append(
            "lower_case_table_names is 2, so tables have two spellings and cannot be told apart in the log"
        )
    if _is_on(found.get("wsrep_on", "OFF")):
        wrong.append(
            "this is a node of a Galera cluster, and its log says nothing exact about the other nodes' commits"
        )
    if not session.is_mariadb and found.get("gtid_mode", "OFF").upper() != "ON":
        wrong.append("gtid_mode is not ON, so a snapshot's place in the log cannot be told: switch GTIDs on")
    updates = found.get("log_slave_updates", found.get("log_replica_updates", "ON"))
    if not _is_on(updates):
        running = await session.rows("SHOW GLOBAL STATUS LIKE 'Slaves_running'")
        if not session.is_mariadb or any(str(count) not in ("0", "") for _, count in running):
            wrong.append(
                "this server is a replica of another one and does not log what it gets from there: "
                "set log_slave_updates (log_replica_updates), or read the primary"
            )
    return wrong


async def refusals_of_rights(session: Session, server: Server) -> list[str]:
    """Return what this account lacks to know where the log stands, and which databases the log leaves out."""
    if await written_position(session) is None:
        return [f"the account may not ask where the binary log stands: {grant(session, server.user)}"]
    for statement in ("SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"):
        try:
            rows = await session.rows(statement)
        except asyncmy.errors.MySQLError:
            continue
        left_out = [str(value) for value in rows[0][2:4] if value]
        if left_out:
            return [
                f"the binary log leaves databases out (binlog_do_db or binlog_ignore_db: {', '.join(left_out)}): "
                "remove these options from the server's configuration"
            ]
        break
    return []


def grant(session: Session, account: str) -> str:
    """Return the statement that gives `account` (``user@host``) what change capture needs."""
    name, _, host = account.rpartition("@")
    status = "BINLOG MONITOR" if session.is_mariadb and not _is_old(session) else "REPLICATION CLIENT"
    return f"GRANT REPLICATION SLAVE, {status} ON *.* TO '{name}'@'{host}'"


async def watched_tables(session: Session, plan: Plan) -> list[WatchedTable]:
    """Return the tables of `plan` as the log has them. Raises CDCError with everything that cannot be followed."""
    wrong: list[str] = []
    items: dict[tuple[str, str], list[Item]] = {}
    for item in plan.items:
        if item.table is None:
            wrong.append(
                f"{item.spec.label} is a query, whose rows are not in the log: declare its tables, or remove cdc"
            )
        elif item.table.is_view:
            wrong.append(
                f"{item.table.label} is a view, whose rows are not in the log: declare what it reads, or remove cdc"
            )
        else:
            items.setdefault((item.table.schema, item.table.name), []).append(item)
    found: list[WatchedTable] = []
    for (schema, name), some in items.items():
        table = await _watched_table(session, schema, name, some, wrong)
        found.append(table)
        wrong += await _cascades(session, table, plan)
    if wrong:
        raise CDCError("\n".join(wrong) if len(wrong) > 1 else wrong[0], details={"errors": wrong})
    return found


async def _watched_table(
    session: Session, schema: str, name: str, items: Sequence[Item], wrong: list[str]
) -> WatchedTable:
    needed = {
        column.name
        for item in items
        for column in (item.parts if item.template is not None else (item.column,))
        if column is not None
    }
    columns: dict[str, LoggedColumn] = {}
    declared: Mapping[str, Column] = items[0].table.columns if items[0].table is not None else {}
    kind = items[0].table.kind if items[0].table is not None else ""
    if kind == "SYSTEM VERSIONED":
        wrong.append(
            f"{schema}.{name} keeps its own history (system versioning), which the log shows as rows: remove cdc"
        )
    generated = "generation_expression" if not session.is_mariadb else "IF(is_generated = 'ALWAYS', 'x', '')"
    for place, column, full_type, default, extra, expression in await session.rows(
        f"SELECT ordinal_position, column_name, column_type, column_default, extra, {generated} "
        "FROM information_schema.columns "
        f"WHERE table_schema = {literal(schema)} AND table_name = {literal(name)} ORDER BY ordinal_position"
    ):
        if "compressed" in str(full_type).lower() and str(column) not in needed:
            wrong.append(
                f"{schema}.{name}.{column} is a COMPRESSED column, so rows of that table cannot be read: remove cdc"
            )
        if str(column) not in needed:
            continue
        value, is_expression = _default(session, default, str(extra))
        if value is None and str(full_type).startswith("enum(") and declared[str(column)].not_null:
            value = words_of(str(full_type))[0]  # what a server that is not strict puts in
        logged = LoggedColumn(
            column=declared[str(column)],
            place=int(place) - 1,
            default=value,
            has_expression_default=is_expression,
            is_generated=bool(expression)
            or "GENERATED" in str(extra).upper().replace("DEFAULT_GENERATED", ""),
        )
        columns[str(column)] = logged
        if logged.obstacle:
            wrong.append(f"{schema}.{name}.{column} {logged.obstacle}: remove cdc for this source")
        elif "VIRTUAL" in str(extra).upper():
            wrong.append(
                f"{schema}.{name}.{column} is computed when it is read (VIRTUAL): declare the columns it is made of"
            )
    return WatchedTable(schema, name, columns, tuple(items))


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


async def _cascades(session: Session, table: WatchedTable, plan: Plan) -> list[str]:
    """Return the columns of `table` that a foreign key changes without a row in the log.

    InnoDB carries such changes out by itself, below the log. The statement that made the table says it to everybody
    who may read it; information_schema tells it only to those who may also write.
    """
    await session.rows("SET SESSION sql_mode = '', sql_quote_show_create = 1")
    ((_, text),) = await session.rows(f"SHOW CREATE TABLE `{_quoted(table.schema)}`.`{_quoted(table.name)}`")
    parts = {column.name for item in table.items if item.template is not None for column in item.parts}
    plain = {
        item.column.name: item for item in table.items if item.template is None and item.column is not None
    }
    wrong: list[str] = []
    for key in _KEY.finditer(str(text)):
        actions = key["actions"].upper()
        parent = [_unquoted(name) for name in _NAME.findall(key["parent"])]
        schema, parent_table = parent if len(parent) == 2 else (table.schema, parent[0])
        referenced = [_unquoted(name) for name in _NAME.findall(key["referenced"])]
        changes_parts = "ON UPDATE CASCADE" in actions or "SET NULL" in actions or "SET DEFAULT" in actions
        for column, target in zip(map(_unquoted, _NAME.findall(key["columns"])), referenced, strict=False):
            if column in parts and changes_parts:
                wrong.append(
                    f"{table.label}.{column} is part of a template and changes with {schema}.{parent_table}.{target} "
                    "(foreign key), which the log does not show: remove cdc for this source"
                )
            elif column in plain and "ON UPDATE CASCADE" in actions:
                if not _is_declared(plan, plain[column], schema, parent_table, target):
                    wrong.append(
                        f"{table.label}.{column} changes with {schema}.{parent_table}.{target} (ON UPDATE CASCADE), "
                        "which the log does not show: declare that column as well, or remove cdc for this source"
                    )
            elif column in plain and "ON UPDATE SET DEFAULT" in actions:
                wrong.append(f"{table.label}.{column} has ON UPDATE SET DEFAULT, which the log does not show")
    return wrong


def _is_declared(plan: Plan, child: Item, schema: str, table: str, column: str) -> bool:
    """Whether the parent's column is read by the same rules, so that its own row says what the child becomes."""
    return any(
        item.table is not None
        and item.column is not None
        and (item.table.schema, item.table.name, item.column.name) == (schema, table, column)
        and (item.spec.format, item.spec.rules) == (child.spec.format, child.spec.rules)
        for item in plan.items
        if item.template is None
    )


def _is_on(value: str) -> bool:
    return value.upper() in ("ON", "1", "YES", "TRUE")


def _is_old(session: Session) -> bool:
    found = re.search(r"(\d+)\.(\d+)\.\d+-MariaDB", str(session.connection.server_version))
    return found is not None and (int(found[1]), int(found[2])) < (10, 5)


def _quoted(name: str) -> str:
    return name.replace("`", "``")


def _unquoted(name: str) -> str:
    return name.replace("``", "`")
