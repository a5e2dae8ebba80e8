"""Databases as sources of references: one module a dialect behind the one protocol `references.types.Source`.

Stands below `references.reader`, which writes what is read here into files, and above the drivers. A dialect's
driver is imported only when a source of that dialect is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from s3gc.config import SourceConfig
from s3gc.exceptions import ConfigurationError, S3GCError
from s3gc.references.types import ReferenceRules, Source

__all__ = ["open_source", "opened_source"]


async def open_source(config: SourceConfig, rules: ReferenceRules) -> Source:
    """Return the source that `config` describes. Nothing is connected to before its `preflight`.

    Raises ConfigurationError when there is no URL, it cannot be read, or its driver is not installed.
    """
    match config.dialect:
        case "postgresql":
            from s3gc.references.sources.postgres import PostgresSource

            return PostgresSource(config, rules)
        case "mysql":
            try:
                from s3gc.references.sources.mysql import MySQLSource
            except ModuleNotFoundError as error:
                if error.name != "asyncmy":
                    raise
                raise ConfigurationError(
                    f"source {config.name!r}: MySQL and MariaDB need the package asyncmy: pip install 's3gc[mysql]'"
                ) from None
            return MySQLSource(config, rules)
        case _:
            from s3gc.references.sources.sqlite import SQLiteSource

            return SQLiteSource(config, rules)


@contextlib.asynccontextmanager
async def opened_source(config: SourceConfig, rules: ReferenceRules) -> AsyncIterator[Source]:
    """`open_source` for one question: closed whatever happens, and an error of the closing hides none of the asking."""
    source = await open_source(config, rules)
    try:
        yield source
    finally:
        with contextlib.suppress(S3GCError, OSError):
            await source.close()
