"""What must hold before rows of the binary log may stand for a second reading, found out before any work.

Each thing that would make a change invisible in the log is looked for by name, and refused with the way on. The
settings are asked for again at every fence, for any of them can be changed while a cycle runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncmy.errors

from s3gc.references.cdc.mysql_position import written_position
from s3gc.references.cdc.mysql_rows import WatchedTable
from s3gc.references.sources.mysql_catalog import Server
from s3gc.references.sources.mysql_session import Session

__all__ = ["grant", "refusals_of_rights", "refusals_of_settings"]

_PARTIAL = ("MINIMAL", "NOBLOB")
_VARIABLES = (
    "log_bin", "binlog_format", "binlog_row_image", "log_bin_compress", "binlog_transaction_compression",
    "binlog_row_value_options", "log_slave_updates", "log_replica_updates", "lower_case_table_names", "wsrep_on",
    "gtid_mode",
)  # fmt: skip


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


def _is_on(value: str) -> bool:
    return value.upper() in ("ON", "1", "YES", "TRUE")


def _is_old(session: Session) -> bool:
    found = re.search(r"(\d+)\.(\d+)\.\d+-MariaDB", str(session.connection.server_version))
    return found is not None and (int(found[1]), int(found[2])) < (10, 5)
