"""Shared by the tests of sources: make one, read all of it, run SQL past it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from s3gc.config import SourceConfig
from s3gc.references.sources import open_source
from s3gc.references.types import ReferenceRules, Source, SourcePreflight

RULES = ReferenceRules(bucket="media")


def config(
    url: str, *, table: str | None = None, columns: Any = (), where: str | None = None, **more: Any
) -> SourceConfig:
    tables = more.pop("tables", [])
    if table is not None:
        tables = [{"table": table, "columns": list(columns), "where": where}, *tables]
    return SourceConfig.model_validate({"name": "shop", "url": url, "tables": tables, **more})


@contextlib.asynccontextmanager
async def source_of(url: str, **options: Any) -> AsyncIterator[Source]:
    source = await open_source(config(url, **options), RULES)
    try:
        yield source
    finally:
        await source.close()


async def read(source: Source, preflight: SourcePreflight | None = None) -> dict[str, list[Any]]:
    """Everything a source yields, by label, sorted."""
    preflight = preflight or await source.preflight(execute=False)
    found: dict[str, list[Any]] = {}
    async with source.snapshot() as snapshot:
        for column in preflight.columns:
            values: list[Any] = []
            async for batch in snapshot.values(column):
                values.extend(batch)
            found[column.label] = sorted(values, key=lambda value: (str(type(value)), value))
    return found


async def read_once(url: str, **options: Any) -> dict[str, list[Any]]:
    async with source_of(url, **options) as source:
        return await read(source)


async def samples(source: Source, limit: int = 1000) -> dict[str, list[object]]:
    return {label: list(values) async for label, values in source.undeclared(limit)}


async def pg(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=120)
    finally:
        await connection.close()


async def pg_role(url: str, name: str, *grants: str, attributes: str = "") -> str:
    """Make a role with a password that may log in, and return its URL. Roles belong to the cluster."""
    await pg(
        url,
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN "
        f"EXECUTE 'DROP OWNED BY {name}'; ELSE CREATE ROLE {name}; END IF; END $$",
        f"ALTER ROLE {name} LOGIN PASSWORD 'sesame-open' {attributes}",
        *(grant.format(role=name) for grant in grants),
    )
    return as_user(url, name, "sesame-open")


def as_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


async def my(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """Run statements on MySQL/MariaDB with autocommit; return the rows of the last."""
    connection = await my_connection(url)
    try:
        return await my_run(connection, *statements)
    finally:
        await connection.ensure_closed()


async def my_connection(url: str, *, autocommit: bool = True) -> Any:
    import asyncmy

    parts = urlsplit(url)
    return await asyncmy.connect(
        host=parts.hostname, port=parts.port, user=parts.username, password=parts.password,
        database=parts.path.strip("/") or None, autocommit=autocommit, connect_timeout=30,
    )  # fmt: skip


async def my_run(connection: Any, *statements: str) -> Sequence[Sequence[Any]]:
    rows: Sequence[Sequence[Any]] = ()
    async with connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
            rows = await cursor.fetchall() if cursor.description else ()
    return rows


async def my_user(url: str, name: str, *grants: str) -> str:
    await my(
        url,
        f"DROP USER IF EXISTS {name}@'%'",
        f"CREATE USER {name}@'%' IDENTIFIED BY 'sesame-open'",
        *(grant.format(user=f"{name}@'%'") for grant in grants),
    )
    return as_user(url, name, "sesame-open")


def numbers(count: int) -> str:
    """SQL for a table with a column `seq` from 1 to `count`, on MySQL and MariaDB."""
    rows = f"CONCAT('[', REPEAT('0,', {count - 1}), '0]')"
    return f"JSON_TABLE({rows}, '$[*]' COLUMNS (seq FOR ORDINALITY)) numbers"


async def is_mariadb(url: str) -> bool:
    ((version,),) = await my(url, "SELECT VERSION()")
    return "MariaDB" in version


async def monitor_right(url: str) -> str:
    """The right to ask where the binary log stands, as this server calls it."""
    return "BINLOG MONITOR" if await is_mariadb(url) else "REPLICATION CLIENT"


async def log_end(url: str) -> tuple[str, int]:
    """File and offset of the end of the binary log."""
    words = "SHOW MASTER STATUS" if await is_mariadb(url) else "SHOW BINARY LOG STATUS"
    file, offset = (await my(url, words))[0][:2]
    return str(file), int(offset)


async def reset_log(url: str) -> None:
    """Begin the binary log anew."""
    await my(url, "RESET MASTER" if await is_mariadb(url) else "RESET BINARY LOGS AND GTIDS")


async def until(predicate: Any, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await predicate():
            await asyncio.sleep(0.02)
