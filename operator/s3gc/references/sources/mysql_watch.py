"""What must not change under a cycle, and whose writes it must wait for, on MySQL and MariaDB."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

import asyncmy.errors

from s3gc.exceptions import SourceError
from s3gc.references.sources.mysql_catalog import literal, mentioned
from s3gc.references.sources.mysql_plan import Plan
from s3gc.references.sources.mysql_session import Session
from s3gc.references.sources.planning import bounded
from s3gc.references.types import BarrierResult

__all__ = ["fingerprint", "reads_of", "transactions_hidden", "wait_for_writers"]

#: The server refreshes INNODB_TRX only when nobody has read it for 100 ms.
_CACHE_SECONDS = 0.12


@dataclass(frozen=True, slots=True)
class _Reads:
    """Tables behind the declared ones and the queries. `unknown`: views whose text we may not see."""

    tables: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


async def reads_of(session: Session, plan: Plan) -> _Reads:
    """Return every table whose rows the policy reads, through views and queries too; a superset, by name."""
    found = dict.fromkeys((table.schema, table.name) for table in plan.tables)
    found.update(dict.fromkeys(mentioned("\n".join(plan.queries), plan.names)))
    unknown: list[str] = []
    waiting = list(found)
    while waiting:
        schema, name = waiting.pop()
        rows = await session.rows(
            "SELECT view_definition FROM information_schema.views "
            f"WHERE table_schema = {literal(schema)} AND table_name = {literal(name)}"
        )
        for (definition,) in rows:
            if not definition:  # without SHOW VIEW it is empty
                unknown.append(f"{schema}.{name}")
                below: Iterable[tuple[str, str]] = plan.names
            else:
                below = mentioned(str(definition), plan.names)
            fresh = [table for table in below if table not in found]
            found.update(dict.fromkeys(fresh))
            waiting += fresh
    return _Reads(tuple(found), tuple(unknown))


async def fingerprint(session: Session, plan: Plan) -> str:
    """Return a digest over columns, partitions, engines and identity of what is read, and over the server's.

    CREATE_TIME is part of it: it alone tells a table from one of the same columns that was renamed into its place.
    Inserts, updates and ANALYZE leave it; ALTER, OPTIMIZE and TRUNCATE (on some versions) change it.
    """
    facts: list[object] = [plan.server.identity, list(plan.queries)]
    for schema, name in sorted((await reads_of(session, plan)).tables):
        here = f"WHERE table_schema = {literal(schema)} AND table_name = {literal(name)}"
        facts.append([schema, name])
        facts += await session.rows(
            "SELECT table_type, engine, CAST(create_time AS CHAR), create_options "
            f"FROM information_schema.tables {here}"
        )
        facts += await session.rows(
            "SELECT ordinal_position, column_name, column_type, character_set_name, collation_name, is_nullable, extra "
            f"FROM information_schema.columns {here} ORDER BY ordinal_position"
        )
        facts += await session.rows(
            "SELECT partition_name, subpartition_name, partition_method, partition_expression, partition_description "
            f"FROM information_schema.partitions {here} "
            "ORDER BY partition_ordinal_position, subpartition_ordinal_position"
        )
        facts += await session.rows(f"SELECT view_definition FROM information_schema.views {here}")
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


# A transaction that only reads has no lock structures; one that writes has at least its table's intention lock, from
# its first statement on. trx_rows_modified alone would miss a statement that waits for its first row.
_WRITERS = """
SELECT CAST(trx_id AS CHAR), CAST(trx_mysql_thread_id AS CHAR), CAST(trx_started AS CHAR), trx_state, trx_rows_modified,
       TIMESTAMPDIFF(SECOND, trx_started, NOW()),
       trx_is_read_only = 0 AND (trx_rows_modified > 0 OR trx_lock_structs > 0 OR trx_tables_locked > 0)
FROM information_schema.innodb_trx
"""


async def transactions_hidden(session: Session) -> str:
    """Return "" when INNODB_TRX shows what is there, proved on a transaction of our own, else why it does not.

    `session` is new: see `_fresh`.
    """
    try:
        await _fresh(session, time.monotonic() + 5)
    except asyncmy.errors.MySQLError:
        return "PROCESS is missing"
    except TimeoutError as error:
        return str(error)
    return ""


async def _fresh(session: Session, deadline: float) -> dict[str, tuple[str, ...]]:
    """Return the writers, from a reading that is newer than this call.

    INNODB_TRX is cached, and while others read it all the time it stays as old as it is. The proof is the first
    transaction that `session` ever opens: a reading that shows it was taken after it began, and so after every
    transaction that the caller asks about.
    """
    await session.rows("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await session.rows("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    while True:
        rows = [tuple(str(value) for value in row) for row in await session.rows(_WRITERS)]
        if any(row[1] == str(session.thread_id) for row in rows):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(
                "information_schema.INNODB_TRX does not show our own transaction: others read it so often "
                "(monitoring?) that the server never refreshes it"
            )
        await asyncio.sleep(_CACHE_SECONDS)
    await session.rows("ROLLBACK")
    return {"/".join(row[:3]): row for row in rows if row[6] == "1"}


async def wait_for_writers(session: Session, timeout_seconds: float) -> BarrierResult:
    """Wait until the transactions of this server that were writing at the call are over. `session` is new.

    Raises SourceError when the transactions cannot be seen (any more).
    """
    started = time.monotonic()
    try:
        first = await _fresh(session, started + min(timeout_seconds, 30))
    except asyncmy.errors.MySQLError as error:
        raise SourceError(
            f"open transactions cannot be seen: {error.args[-1]}; GRANT PROCESS ON *.*"
        ) from None
    pending = dict(first)
    while pending:
        waited = time.monotonic() - started
        if waited >= timeout_seconds:
            blockers = [
                f"thread {row[1]} ({row[3].lower()}, {row[5]} s old, {row[4]} rows modified)"
                if row[1] != "0"
                else f"XA transaction {row[0]} ({row[5]} s old; XA RECOVER shows it)"
                for row in pending.values()
            ]
            detail = f"still writing after {waited:.0f} s: {bounded(blockers)}"
            return BarrierResult(passed=False, waited_seconds=waited, detail=detail)
        await asyncio.sleep(min(_CACHE_SECONDS, max(timeout_seconds - waited, 0.01)))
        there = [tuple(str(value) for value in row) for row in await session.rows(_WRITERS)]
        # A transaction gets its number with its first write, so it is known by its thread and start as well. One that
        # was detached (XA PREPARE, then the session ended) has thread 0 and keeps its number.
        numbers = {row[0] for row in there if row[0] != "0"}
        threads = {(row[1], row[2]) for row in there}
        pending = {
            name: row
            for name, row in pending.items()
            if row[0] in numbers or (row[1] != "0" and (row[1], row[2]) in threads)
        }
    # The state changes a moment before the rows become visible to new readers.
    await asyncio.sleep(0.05)
    return BarrierResult(passed=True, waited_seconds=time.monotonic() - started)
