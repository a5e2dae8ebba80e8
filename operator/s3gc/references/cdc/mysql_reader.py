"""Reads the binary log from one position to another: events in, values of the watched columns out, or an error.

One dump connection a drain, without blocking: the server ends it where its log ends. Everything here blocks and runs in
a thread of its own (`mysql_capture`), which takes a batch at a time, so that neither a busy server nor a slow caller
fills the memory. The list of event types that are understood is closed: compressed rows, partial JSON, encrypted or
future events would otherwise be passed over in silence, references in them and all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication import event as logged
from pymysqlreplication.constants import BINLOG
from pymysqlreplication.row_event import (
    DeleteRowsEvent,
    PartialUpdateRowsEvent,
    RowsEvent,
    TableMapEvent,
    UpdateRowsEvent,
    WriteRowsEvent,
)

from s3gc.exceptions import CDCError
from s3gc.references.cdc.mysql_position import Position
from s3gc.references.cdc.mysql_rows import WatchedTable
from s3gc.references.cdc.mysql_statements import obstacle, xa_of
from s3gc.references.cdc.types import Change

__all__ = ["BinlogReader"]

#: Types that carry no rows. The rest is rows, statements, or unknown.
_HARMLESS = frozenset(
    {
        BINLOG.STOP_EVENT,
        BINLOG.ROTATE_EVENT,
        BINLOG.FORMAT_DESCRIPTION_EVENT,
        BINLOG.XID_EVENT,
        BINLOG.INTVAR_EVENT,  # these three belong to a statement, which is judged itself
        BINLOG.RAND_EVENT,
        BINLOG.USER_VAR_EVENT,
        BINLOG.HEARTBEAT_LOG_EVENT,
        BINLOG.ROWS_QUERY_LOG_EVENT,
        BINLOG.GTID_LOG_EVENT,
        BINLOG.ANONYMOUS_GTID_LOG_EVENT,
        BINLOG.PREVIOUS_GTIDS_LOG_EVENT,
        BINLOG.MARIADB_ANNOTATE_ROWS_EVENT,
        BINLOG.MARIADB_BINLOG_CHECKPOINT_EVENT,
        BINLOG.MARIADB_GTID_EVENT,
        BINLOG.MARIADB_GTID_GTID_LIST_EVENT,
        BINLOG.MARIADB_START_ENCRYPTION_EVENT,  # what follows is sent decrypted
        42,  # MySQL 8.4's GTID with a tag
    }
)
_NAMES = {
    0x26: "XA prepare",
    0x27: "PARTIAL_UPDATE_ROWS (binlog_row_value_options)",
    40: "TRANSACTION_PAYLOAD (binlog_transaction_compression)",
    **dict.fromkeys(range(165, 170), "a compressed event (log_bin_compress)"),
    0x1A: "INCIDENT (the server says itself that events are missing)",
}
#: After any other event a stream may begin: rows need the map of their table, which comes before them.
_NO_BOUNDARY = (
    RowsEvent,
    TableMapEvent,
    logged.FormatDescriptionEvent,
    logged.MariadbGtidEvent,
    logged.GtidEvent,
    logged.RowsQueryLogEvent,
    logged.MariadbAnnotateRowsEvent,
    logged.NotImplementedEvent,
)
_BATCH_VALUES = 5_000
_BATCH_BYTES = 4 * 1024 * 1024
#: The server went away, closed or killed the dump. It is asked again from where it was, so often in one drain.
_AGAIN = frozenset({2006, 2013, 1927, 1317})
_TRIES = 5
#: How long the stream may fall short of where the log was said to be.
_WAITS, _WAIT_SECONDS = 40, 0.25


class BinlogReader:
    """One capture's way through the log. `connect` opens a connection that is proven to be the right server's."""

    def __init__(
        self,
        connect: Callable[..., Any],
        server_id: int,
        tables: Mapping[tuple[str, str], WatchedTable],
    ) -> None:
        self._connect = connect
        self._server_id = server_id
        self._tables = tables
        self._prepared: set[str] = set()  # transactions whose rows came by before they were committed (XA)
        self._begun: dict[str, int] = {}  # file -> when it was begun
        self.position: Position | None = None  # everything before it was delivered
        self.gtids: dict[int, tuple[int, int]] = {}
        self.transactions = 0

    @property
    def _place(self) -> str:
        """Where it is, for people."""
        return str(self.position) if self.position is not None else "the place where it was opened"

    def read(self, until: Position, gtid_set: str = "") -> Generator[list[Change], None, None]:
        """Yield batches of changes from `position` (or MySQL's `gtid_set`) on, until the log reaches `until`.

        Raises CDCError when anything in between cannot be understood, or the log ends before; then nothing may be
        concluded. What was delivered may be delivered again.
        """
        tries, waits = 0, _WAITS
        while True:
            before = self.position
            try:
                yield from self._read_once(until, gtid_set if self.position is None else "")
            except pymysql.MySQLError as error:
                code = error.args[0] if error.args else 0
                if self.position != before:
                    tries = 0
                tries += 1
                if code in _AGAIN and tries < _TRIES and self.position is not None:
                    continue
                raise _failed(error) from None
            except CDCError:
                raise
            except Exception as error:
                raise CDCError(
                    f"the binary log cannot be read after {self._place} ({type(error).__name__}: {error})"
                ) from error
            if self.position is not None and self.position.reaches(until):
                return
            # MySQL tells an end that it sends only once it is on disk: a moment later it is there.
            waits -= 1
            if waits > 0:
                time.sleep(_WAIT_SECONDS)
                continue
            raise CDCError(
                f"the stream of the binary log ended at {self._place}, before {until}, where the server's log was "
                "when it was asked; is the direct address another server's?"
            )

    def look(self) -> Generator[list[Change], None, None]:
        """Open a dump at `position` and read its first event, nothing more: may we, and which file is it."""
        reader = self._open("")
        try:
            for event in reader:
                if isinstance(event, logged.FormatDescriptionEvent):
                    self._same_file(reader, event)
                    break
        except pymysql.MySQLError as error:
            raise _failed(error) from None
        finally:
            reader.close()
        yield from ()

    def _open(self, gtid_set: str) -> Any:
        # Its one warning asks for names of columns in the log, which come from the catalog here.
        logging.getLogger("pymysqlreplication").setLevel(logging.ERROR)
        where: dict[str, Any] = (
            {"log_file": self.position.file, "log_pos": self.position.offset}
            if self.position is not None
            else {"auto_position": gtid_set}
        )
        return BinLogStreamReader(
            connection_settings={},
            pymysql_wrapper=self._connect,
            server_id=self._server_id,
            blocking=False,
            resume_stream=True,
            filter_non_implemented_events=False,
            only_schemas=frozenset(schema for schema, _ in self._tables),
            only_tables=frozenset(table for _, table in self._tables),
            enable_logging=False,
            **where,
        )

    def _read_once(self, until: Position, gtid_set: str) -> Iterator[list[Change]]:
        reader = self._open(gtid_set)
        batch: list[Change] = []
        size = 0
        boundary = self.position
        try:
            for event in reader:
                if isinstance(event, logged.FormatDescriptionEvent):
                    self._same_file(reader, event)
                for index, value in self._changes(event):
                    batch.append((index, value))
                    size += len(value)
                if not isinstance(event, _NO_BOUNDARY) and event.packet.log_pos:
                    boundary = Position(str(reader.log_file), int(reader.log_pos))
                is_over = boundary is not None and boundary.reaches(until)
                if len(batch) >= _BATCH_VALUES or size >= _BATCH_BYTES or is_over:
                    if batch:
                        yield batch
                    # Only what was delivered is behind us: after an error the rest is read again.
                    self.position, batch, size = boundary, [], 0
                if is_over:
                    return
        finally:
            reader.close()
        if batch:
            yield batch
        self.position = boundary

    def _changes(self, event: Any) -> Iterator[tuple[int, str | bytes]]:
        if isinstance(event, TableMapEvent):
            table = self._tables.get((event.schema, event.table))
            if table is not None:
                table.prepare(event)
            return
        if isinstance(event, RowsEvent):
            yield from self._rows(event)
            return
        kind = event.event_type
        if isinstance(event, logged.QueryEvent):
            self._statement(event.query, event.schema.decode("utf-8", "replace"))
        elif isinstance(event, logged.XAPrepareEvent):
            self._prepared.add(_xa_name(event))
            self.transactions += 1
        elif isinstance(event, logged.MariadbGtidEvent):
            self.gtids[event.domain_id] = (event.server_id, event.gtid_seq_no)
        elif kind == BINLOG.XID_EVENT:
            self.transactions += 1
        elif isinstance(event, (logged.BeginLoadQueryEvent, logged.ExecuteLoadQueryEvent)):
            raise CDCError(
                "a LOAD DATA was logged as a statement instead of rows: the session that ran it does not use "
                "binlog_format=ROW, so which rows it changed is not known"
            )
        elif kind not in _HARMLESS:
            raise CDCError(
                f"the binary log holds an event of type {kind} ({_NAMES.get(kind, 'unknown')}) after {self._place}, "
                "which is not understood here, so rows may be in it that nobody saw"
            )

    def _rows(self, event: Any) -> Iterator[tuple[int, str | bytes]]:
        table = self._tables.get((event.schema, event.table))
        if table is None or isinstance(event, DeleteRowsEvent):
            return
        if isinstance(event, PartialUpdateRowsEvent):
            raise CDCError(
                f"{table.label}: an UPDATE was logged with parts of its JSON only "
                "(binlog_row_value_options = PARTIAL_JSON)"
            )
        if isinstance(event, UpdateRowsEvent):
            present, image, is_insert = event.columns_present_bitmap2, "after_values", False
        elif isinstance(event, WriteRowsEvent):
            present, image, is_insert = event.columns_present_bitmap, "values", True
        else:
            raise CDCError(f"{table.label}: rows of an unknown kind are in the binary log")
        for row in event.rows:
            for index, values in table.values(row[image], present, inserted=is_insert):
                for value in values:
                    yield index, value

    def _statement(self, query: str, schema: str) -> None:
        if (xa := xa_of(query)) is not None and xa[0] == "COMMIT" and xa[1] not in self._prepared:
            # Its rows stand in the log where it was prepared: before the scan, which did not see them yet.
            raise CDCError(
                f"a prepared transaction ({xa[1]}) was committed whose rows were written before the cycle began, so "
                "neither the scan nor the stream has them"
            )
        if reason := obstacle(query, schema, self._tables):
            raise CDCError(reason)

    def _same_file(self, reader: Any, event: Any) -> None:
        """RESET MASTER begins the same names again, from the start; and each file has checksums or not.

        The reader asks once whether there are checksums. With a file of the other kind it would take four bytes off
        each event, and the last rows of some with them.
        """
        file, begun = str(reader.log_file), int(event.timestamp)
        if (event.checksum_algorithm == 1) != bool(reader._BinLogStreamReader__use_checksum):
            raise CDCError(f"binlog_checksum was changed since {file} was begun, so it cannot be read")
        if self._begun.setdefault(file, begun) != begun:
            raise CDCError(f"{file} is not the file that it was: the server's binary logs were reset")


def _xa_name(event: Any) -> str:
    return f"x'{event.xid_gtrid.hex()}',x'{event.xid_bqual.hex()}',{event.xid_format_id}"


def _failed(error: BaseException) -> CDCError:
    code = error.args[0] if error.args else 0
    said = error.args[1] if len(error.args) > 1 else error
    if code == 1236 and (
        "impossible position" in str(said) or "Could not find" in str(said) or "purged" in str(said)
    ):
        return CDCError(
            f"the server does not have the binary log from the scan on any more ({said}); keep it for longer than a "
            "cycle takes (binlog_expire_logs_seconds, or the provider's retention of binary logs)"
        )
    if code in (1227, 1045, 1142):
        return CDCError(f"the account may not read the binary log ({said}): GRANT REPLICATION SLAVE ON *.*")
    return CDCError(f"reading the binary log failed: {said}")
