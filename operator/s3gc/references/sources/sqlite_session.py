"""SQLite files opened for reading only, and SQLite's errors as ours.

`mode=ro` never makes a file, and nothing that is read can write. A connection lives in aiosqlite's thread; a
caller that is cancelled interrupts what that thread runs, so no thread is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import aiosqlite

from s3gc.exceptions import AccessDeniedError, ConfigurationError, S3GCError, SourceError
from s3gc.references.sources.identifiers import nearest
from s3gc.references.sources.planning import single_line
from s3gc.references.sources.urls import parse_url

__all__ = ["BUSY_SECONDS", "CATALOG_SECONDS", "IDLE_SECONDS", "SQLite"]

#: How long SQLite itself waits for a lock before it says "database is locked".
BUSY_SECONDS = 30.0
CATALOG_SECONDS = 120.0
#: How long one batch may take: a filter that matches few rows of a large table is silent for long.
IDLE_SECONDS = 3600.0


class SQLite:
    """Opens connections to one file and names its errors."""

    def __init__(self, url: str, source: str) -> None:
        self.source = source
        self.path = _path(url, source)
        self._open: set[aiosqlite.Connection] = set()

    def check_file(self) -> None:
        """Raise ConfigurationError unless the file is there and can be read; it is never made."""
        if self.path.is_file():
            if not os.access(self.path, os.R_OK):
                raise AccessDeniedError(
                    f"{self._where()}: the file cannot be read by this user", details={"action": "read"}
                )
            return
        if self.path.exists():
            raise ConfigurationError(f"{self._where()}: this is not a file")
        try:
            close = nearest(self.path.name, [item.name for item in self.path.parent.iterdir()])
        except OSError:
            close = []
        hint = f"; did you mean {close[0]!r}?" if close else f" (working directory: {Path.cwd()})"
        raise ConfigurationError(f"{self._where()}: there is no such file{hint}")

    @contextlib.asynccontextmanager
    async def connection(
        self, *, mode: str = "ro", busy_seconds: float = BUSY_SECONDS
    ) -> AsyncIterator[aiosqlite.Connection]:
        """A connection without implicit transactions, closed whatever happens."""
        opened = await aiosqlite.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=busy_seconds,
        )
        # Text that is no UTF-8 must not end the reading: its bytes arrive as surrogates (PEP 383).
        opened.text_factory = _text
        self._open.add(opened)
        try:
            yield opened
        finally:
            self._open.discard(opened)
            await _close(opened)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection in a read transaction: its first read pins what all later reads see."""
        async with self.connection() as opened:
            await opened.execute("BEGIN")
            await opened.execute_fetchall("SELECT count(*) FROM sqlite_master")
            yield opened

    async def close(self) -> None:
        for opened in list(self._open):
            self._open.discard(opened)
            await _close(opened)

    @contextlib.contextmanager
    def translated(self, doing: str = "") -> Iterator[None]:
        """Turn SQLite's errors into ours. Only around our own calls, never around a caller's block."""
        try:
            yield
        except S3GCError:
            raise
        except (sqlite3.Error, ValueError, OSError) as error:
            raise self.error(error, doing) from error

    def error(self, error: BaseException, doing: str = "") -> S3GCError:
        """Return what `error` means to a person on call."""
        where, said = self._where(doing), single_line(error)
        if "not a database" in said or "file is encrypted" in said:
            return ConfigurationError(f"{where}: this is not an SQLite database, or it is encrypted")
        if "unable to open" in said:
            return ConfigurationError(
                f"{where}: SQLite cannot open it ({said}); a database in WAL mode needs its -wal and -shm files, or a "
                "folder that this user may write to"
            )
        if "locked" in said or "busy" in said:
            return SourceError(f"{where}: {said}: a writer held its lock for more than {BUSY_SECONDS:.0f} s")
        if "no such" in said:
            return SourceError(f"{where}: the schema changed after it was checked: {said}")
        if isinstance(error, TimeoutError):
            return SourceError(f"{where}: no answer within {IDLE_SECONDS:.0f} s")
        return SourceError(f"{where}: {said or type(error).__name__}")

    def _where(self, doing: str = "") -> str:
        return f"source {self.source!r} (SQLite {self.path})" + (f", {doing}" if doing else "")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _path(url: str, source: str) -> Path:
    """``sqlite:///relative`` and ``sqlite:////absolute``, as SQLAlchemy writes them."""
    address = parse_url(url, source)
    written = url.partition("://")[2].partition("?")[0].partition("#")[0]
    if address.hosts or not written.startswith("/"):
        raise ConfigurationError(
            f"source {source!r}: write sqlite:///relative/path or sqlite:////absolute/path"
        )
    raw = written.removeprefix("/")
    if raw in ("", ":memory:") or address.database == ":memory:":
        raise ConfigurationError(
            f"source {source!r}: the URL names no file; a database in memory holds nothing to read"
        )
    # Tools disagree on whether a path in such a URL is percent-encoded: what exists is meant.
    return next(
        (path for path in (Path(raw), Path(address.database)) if path.exists()), Path(address.database)
    )


async def _close(opened: aiosqlite.Connection) -> None:
    try:
        await opened.interrupt()
        async with asyncio.timeout(10):
            await opened.close()
    except (sqlite3.Error, ValueError, TimeoutError):
        pass  # it is closed, or its thread ends with the statement that was interrupted
