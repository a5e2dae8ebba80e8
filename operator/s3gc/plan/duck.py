"""One way to open DuckDB: a memory limit that holds, spilling into the work folder, exact comparisons, no
network.

Every query of `plan` runs in a `Session`. Strings compare as their UTF-8 bytes (no collation), which is
what makes a key equal to itself only. `memory_limit_mb` bounds DuckDB's own buffers; Arrow batches in
Python come on top.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import duckdb

from s3gc.exceptions import S3GCError

__all__ = ["Cancelled", "Session", "is_storable", "open_session", "quoted", "table_of", "timestamp"]

#: Rows of a row group that DuckDB writes: small, because each writing thread holds one of them in memory.
ROW_GROUP = 32_768
#: The same in bytes, for columns of documents.
ROW_GROUP_BYTES = "2MB"


class Cancelled(S3GCError):  # noqa: N818  not an error: somebody asked for it
    """The work was stopped on request, between two queries or inside one; what it wrote is incomplete."""


def quoted(text: str) -> str:
    """Return `text` as an SQL string literal. DuckDB's literals have no escapes but the doubled quote."""
    if "\0" in text:
        # A NUL ends a statement for the parser; chr(0) does not.
        return "(" + " || chr(0) || ".join(quoted(part) for part in text.split("\0")) + ")"
    return "'" + text.replace("'", "''") + "'"


def is_storable(key: str) -> bool:
    """Tell whether a key that a value could mean can be the name, or the beginning of the name, of an object.

    1 to 1,024 bytes of UTF-8: the empty prefix would mean everything, and a lone surrogate is in no key.
    """
    try:
        return 0 < len(key) <= 1024 and len(key.encode()) <= 1024
    except UnicodeEncodeError:
        return False


def table_of(files: Sequence[Path], *, row_numbers: bool = False) -> str:
    """Return SQL that reads `files` (never globs: the paths are ours) as one relation."""
    names = ", ".join(quoted(_literal_path(path)) for path in files)
    return f"read_parquet([{names}]{', file_row_number = true' if row_numbers else ''})"


def _literal_path(path: Path) -> str:
    """Escape what DuckDB would take for a glob in a path that we did not choose (the work folder's)."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def timestamp(moment: datetime) -> str:
    """Return `moment` as an SQL literal with microseconds; it must carry a time zone."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be compared with the store's")
    seconds = int(moment.timestamp() // 1)
    return f"make_timestamptz({seconds * 1_000_000 + moment.microsecond}::BIGINT)"


class Session:
    """A DuckDB connection for one piece of work; used by one thread, cancelled from any."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, work: Path, stop: threading.Event | None
    ) -> None:
        self._connection = connection
        self._stop = stop
        self.work = work

    def check(self) -> None:
        """Raise Cancelled when somebody asked to stop."""
        if self._stop is not None and self._stop.is_set():
            raise Cancelled("the join was stopped on request")

    def run(self, sql: str) -> None:
        self._execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows: only for results that are small by construction."""
        return list(self._execute(sql).fetchall())

    def one(self, sql: str) -> tuple[Any, ...]:
        row = self._execute(sql).fetchone()
        if row is None:
            raise S3GCError("a query that must return one row returned none")
        return tuple(row)

    def copy(self, query: str, path: Path) -> Path:
        """Write the result of `query` to a Parquet file, streaming."""
        name = quoted(str(path))
        groups = f"ROW_GROUP_SIZE {ROW_GROUP}, ROW_GROUP_SIZE_BYTES '{ROW_GROUP_BYTES}'"
        # The fastest level: as small as the default for keys, at two thirds of its time.
        self.run(
            f"COPY ({query}) TO {name} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, {groups})"
        )
        return path

    def copied(self, query: str, path: Path) -> int:
        """Like `copy`; returns the number of rows written."""
        self.copy(query, path)
        return int(self.one(f"SELECT count(*) FROM {table_of([path])}")[0])

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        self.check()
        try:
            return self._connection.execute(sql)
        except duckdb.InterruptException:
            self.check()
            raise
        except duckdb.OutOfMemoryException as error:
            raise S3GCError(
                f"the join ran out of room in {self.work}: {_first_line(error)}. Raise memory_limit_mb, or "
                f"give work_dir a disk with more free space (about 110 bytes an object and a reference)"
            ) from error
        except duckdb.IOException as error:
            raise S3GCError(f"the join cannot read or write in {self.work}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def threads_for(memory_limit_mb: int) -> int:
    """Return how many threads a memory limit can feed: each holds vectors of its own, about 96 MB at worst."""
    if memory_limit_mb < 128:
        return 1
    return max(2, min(os.cpu_count() or 2, memory_limit_mb // 96))


@contextmanager
def open_session(
    work: Path, *, memory_limit_mb: int, threads: int | None = None, stop: threading.Event | None = None
) -> Iterator[Session]:
    """Open DuckDB with its spill folder under `work`, which is removed at the end.

    `stop`, when set, interrupts a running query within a second. Results are in no order unless a query
    says so.
    """
    spill = work / f"spill-{uuid.uuid4().hex[:8]}"
    spill.mkdir(parents=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": str(spill),
            "threads": threads or threads_for(memory_limit_mb),
            "preserve_insertion_order": False,
            "default_collation": "",  # bytes are bytes
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    done = threading.Event()
    watcher = threading.Thread(target=_interrupt, args=(connection, stop, done), daemon=True)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if stop is not None:
            watcher.start()
        yield Session(connection, work, stop)
    finally:
        done.set()
        if watcher.is_alive():
            watcher.join()
        connection.close()
        rmtree(spill, ignore_errors=True)


def _interrupt(
    connection: duckdb.DuckDBPyConnection, stop: threading.Event | None, done: threading.Event
) -> None:
    while not done.wait(0.25):
        if stop is not None and stop.is_set():
            connection.interrupt()  # again and again: the next query of the same work ends as well
