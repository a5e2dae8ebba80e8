"""What must not change under a cycle, and whose writes it must wait for, on PostgreSQL.

The fingerprint is a digest over the catalog of everything that the policy reads. The barrier waits until the
transactions that were writing those tables are over; it reads `pg_locks`, which every role may do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence

import asyncpg

from s3gc.exceptions import SourceError
from s3gc.references.sources.planning import bounded, single_line
from s3gc.references.sources.postgres_session import CATALOG_SECONDS
from s3gc.references.types import BarrierResult

__all__ = ["fingerprint", "refuse_rewritten", "wait_for_writers"]

# relfilenode is left out: VACUUM FULL and TRUNCATE change it, and between two snapshots neither can hide a reference
# (under a snapshot they can: see `refuse_rewritten`). atthasmissing is left out too, for VACUUM FULL resets it. A
# rewrite that matters changes a type, a column or an oid.
_FINGERPRINT = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relispartition,
       c.relrowsecurity, c.relforcerowsecurity, c.relreplident::text,
       pg_get_expr(c.relpartbound, c.oid),
       (SELECT array_agg(i.inhparent::int8 ORDER BY i.inhparent) FROM pg_catalog.pg_inherits i
        WHERE i.inhrelid = c.oid),
       (SELECT array_agg(concat_ws(':', a.attnum, a.attname, a.atttypid::int8, a.atttypmod, a.attgenerated::text,
                                  a.attcollation::int8) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       CASE WHEN c.relkind IN ('v', 'm') THEN md5(pg_get_viewdef(c.oid)) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::oid[]) ORDER BY c.oid
"""


async def fingerprint(connection: asyncpg.Connection, oids: Sequence[int], queries: Sequence[str]) -> str:
    """Return a digest over the relations `oids`, the text of `queries`, and which server this is."""
    rows = await connection.fetch(_FINGERPRINT, [*oids], timeout=CATALOG_SECONDS)
    server = await connection.fetchrow(
        "SELECT d.oid::int8, pg_is_in_recovery(), "
        "has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_ask "
        "FROM pg_catalog.pg_database d WHERE d.datname = current_database()",
        timeout=CATALOG_SECONDS,
    )
    identity: list[object] = [*server.values()]
    if server["may_ask"]:
        # A fail-over to a copy of the database, or an address that now leads elsewhere, is a change as well.
        identity.append(
            await connection.fetchval(
                "SELECT system_identifier FROM pg_catalog.pg_control_system()", timeout=CATALOG_SECONDS
            )
        )
    facts = {"server": identity, "relations": [list(row.values()) for row in rows], "queries": list(queries)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


# What the snapshot's own catalog says, against what is so now: functions that take an oid or a name, unlike queries of
# pg_class, do not look through the snapshot.
_REWRITTEN = """
SELECT n.nspname || '.' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY($1::oid[]) AND c.relfilenode <> 0
      AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
   OR c.oid = ANY($2::oid[])
      AND pg_catalog.to_regclass(format('%I.%I', n.nspname, c.relname)) IS DISTINCT FROM c.oid::regclass
ORDER BY 1
"""


async def refuse_rewritten(connection: asyncpg.Connection, oids: Sequence[int], named: Sequence[int]) -> None:
    """Raise SourceError when one of `oids` got other storage, or the name of one of `named` another table, since the
    snapshot of `connection`'s transaction was taken.

    TRUNCATE and the rewriting forms of ALTER TABLE are not MVCC-safe, and a name leads to what bears it now: what such
    a transaction put there is not in an older snapshot, nor is what was there before. The table reads as empty, or as
    half full, without any error. Ask after reading: from then on the table is locked against all of them until the
    transaction ends.
    """
    rows = await connection.fetch(_REWRITTEN, [*oids], [*named], timeout=CATALOG_SECONDS)
    if rows:
        raise SourceError(
            f"{bounded([row[0] for row in rows])} was emptied, rewritten or replaced (TRUNCATE, ALTER TABLE, VACUUM "
            "FULL, RENAME) while it was being read, so a snapshot does not show what is in it; run cycles at another "
            "time than such jobs"
        )


# A writing transaction holds RowExclusiveLock on each table it wrote (and on the partition) until it has become
# visible: locks are released after that. SHARE UPDATE EXCLUSIVE on a partitioned parent is ATTACH PARTITION, which
# brings rows in; on a plain table it would be a VACUUM. Weaker locks write nothing.
_WRITERS = """
SELECT pg_is_in_recovery() AS in_recovery, w.* FROM (SELECT 1) one LEFT JOIN (
SELECT l.virtualtransaction AS id, l.pid, array_agg(DISTINCT c.relname::text) AS tables
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND (l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
       OR l.mode = 'ShareUpdateExclusiveLock' AND c.relkind = 'p')
  AND c.relkind IN ('r', 'p', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND ($1::oid[] IS NULL OR l.relation = ANY($1::oid[]))
GROUP BY 1, 2
) w ON true
"""


async def wait_for_writers(
    connection: asyncpg.Connection, oids: Sequence[int] | None, timeout_seconds: float
) -> BarrierResult:
    """Wait until the transactions that hold write locks on `oids` (None: any table of the database) are over.

    `connection` is not in a transaction. Transactions that begin to write later are not waited for. A
    two-phase transaction stays in the set while it is prepared, under its other name.
    """
    started = time.monotonic()
    watched = None if oids is None else [*oids]
    pending: set[str] | None = None
    pause = 0.01
    while True:
        answer = await connection.fetch(_WRITERS, watched, timeout=CATALOG_SECONDS)
        if answer[0]["in_recovery"]:
            # It knows nothing of the primary's locks, and would let everything pass.
            raise SourceError("a replica was asked who is writing; give the primary's own address")
        rows = {row["id"]: row for row in answer if row["id"] is not None}
        if pending is None:
            pending = set(rows)
        elif pending - rows.keys():
            # One of ours is gone: it ended, or PREPARE TRANSACTION gave it a name of the form -1/xid (servers of
            # before 2022; later ones keep the name). Which of the two cannot be told, so every prepared one that is
            # there now is waited for. Ends: each of the first set can vanish only once.
            vanished = pending - rows.keys()
            pending &= rows.keys()
            if any(not name.startswith("-1/") for name in vanished):
                pending |= {name for name in rows if name.startswith("-1/")}
        waited = time.monotonic() - started
        if not pending:
            return BarrierResult(passed=True, waited_seconds=waited)
        if waited >= timeout_seconds:
            blockers = await _blockers(connection, [rows[name] for name in sorted(pending)])
            return BarrierResult(
                passed=False,
                waited_seconds=waited,
                detail=f"still writing after {waited:.0f} s: {blockers}",
            )
        await asyncio.sleep(min(pause, max(timeout_seconds - waited, 0.001)))
        pause = min(pause * 1.5, 0.25)


async def _blockers(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> str:
    """Name the sessions and prepared transactions of `rows`, for a person who may have to end them."""
    prepared = {
        row["id"]: row
        for row in await connection.fetch(
            "SELECT l.virtualtransaction AS id, p.gid, p.owner::text AS owner, "
            "extract(epoch FROM clock_timestamp() - p.prepared)::float8 AS age "
            "FROM pg_catalog.pg_prepared_xacts p JOIN pg_catalog.pg_locks l "
            "ON l.locktype = 'transactionid' AND l.pid IS NULL AND l.transactionid = p.transaction",
            timeout=CATALOG_SECONDS,
        )
    }
    sessions = {
        row["pid"]: row
        for row in await connection.fetch(
            "SELECT pid, usename::text AS user, application_name, state, "
            "extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age "
            "FROM pg_catalog.pg_stat_activity WHERE pid = ANY($1::int[])",
            [row["pid"] for row in rows if row["pid"] is not None],
            timeout=CATALOG_SECONDS,
        )
    }
    names: list[str] = []
    for row in rows:
        where = f"on {', '.join(row['tables'][:3])}"
        if (two_phase := prepared.get(row["id"])) is not None:
            names.append(
                f"prepared transaction {two_phase['gid']!r} of {two_phase['owner']}, {two_phase['age']:.0f} s old, "
                f"{where} (COMMIT PREPARED or ROLLBACK PREPARED ends it)"
            )
        elif (session := sessions.get(row["pid"])) is not None:
            age = f", {session['age']:.0f} s old" if session["age"] is not None else ""
            state = f", {session['state']}" if session["state"] else ""
            application = single_line(session["application_name"] or "no application_name", 60)
            names.append(f"pid {row['pid']} ({session['user']}, {application}{age}{state}) {where}")
        else:
            names.append(f"transaction {row['id']} {where}")
    return bounded(names)
