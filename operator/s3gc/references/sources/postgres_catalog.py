"""What PostgreSQL's catalog says about the tables of a policy: names, types, rights, and what hangs below them.

Only `pg_catalog` is read here, which every role may do. `postgres` decides what follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from s3gc.references.sources.identifiers import Dialect
from s3gc.references.sources.postgres_session import CATALOG_SECONDS

__all__ = [
    "DIALECT",
    "KINDS",
    "Column",
    "Facts",
    "Relation",
    "load_columns",
    "load_facts",
    "load_relations",
    "mentioned",
    "tree",
]

DIALECT = Dialect(quotes={'"': '"'}, folds_to_lower=True)

#: relkind -> what a person calls it.
KINDS: Mapping[str, str] = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialised view",
    "f": "foreign table",
}

_USER_SCHEMAS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"


@dataclass(frozen=True, slots=True)
class Relation:
    oid: int
    schema: str
    name: str
    kind: str  # relkind, a key of KINDS
    pages: int  # planner's estimate; 0 for what has no storage
    readable: bool  # SELECT on at least one column, and USAGE on the schema
    row_security: bool  # policies are active for our role
    usage: bool  # USAGE on the schema
    is_partition: bool

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{DIALECT.quote(self.schema)}.{DIALECT.quote(self.name)}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; types are those below any domain. `element` is an array's element type, else ""."""

    name: str
    type: str  # as a person and a cast write it, schema-qualified where needed
    base: str  # pg_type.typname
    category: str  # pg_type.typcategory
    typtype: str
    element: str
    not_null: bool
    readable: bool
    inherited: bool

    @property
    def sql(self) -> str:
        return DIALECT.quote(self.name)

    @property
    def is_array(self) -> bool:
        return self.category == "A" and self.element != ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Who we are and where."""

    role: str
    database: str
    search_path: tuple[str, ...]
    in_recovery: bool
    pooled: bool
    copy_encoding: str  # SQL_ASCII stores bytes of no encoding, which must not be checked against one


async def load_facts(connection: asyncpg.Connection) -> Facts:
    row = await connection.fetchrow(
        "SELECT current_user::text AS role, current_database()::text AS database, "
        "current_schemas(false)::text[] AS path, pg_is_in_recovery() AS in_recovery, "
        "pg_backend_pid() AS pid, current_setting('server_encoding') AS encoding",
        timeout=CATALOG_SECONDS,
    )
    return Facts(
        role=row["role"],
        database=row["database"],
        search_path=tuple(row["path"]),
        in_recovery=row["in_recovery"],
        # A pooler answers with a process id of its own making; the backend tells the real one.
        pooled=row["pid"] != connection.get_server_pid(),
        copy_encoding="SQL_ASCII" if row["encoding"] == "SQL_ASCII" else "UTF8",
    )


async def load_relations(connection: asyncpg.Connection) -> dict[tuple[str, str], Relation]:
    """Return every table-like relation outside the system's schemas, by schema and name."""
    rows = await connection.fetch(
        f"""
        SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name,
               c.relkind::text AS kind, c.relpages AS pages, c.relispartition AS is_partition,
               has_schema_privilege(n.oid, 'USAGE') AS usage,
               has_any_column_privilege(c.oid, 'SELECT') AS readable,
               c.relkind IN ('r', 'p') AND row_security_active(c.oid) AS row_security
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER_SCHEMAS}
        ORDER BY n.nspname, c.relname
        """,
        timeout=CATALOG_SECONDS,
    )
    return {
        (row["schema"], row["name"]): Relation(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            kind=row["kind"],
            pages=max(row["pages"], 0),
            readable=row["readable"] and row["usage"],
            row_security=row["row_security"],
            usage=row["usage"],
            is_partition=row["is_partition"],
        )
        for row in rows
    }


async def load_columns(connection: asyncpg.Connection, oids: Sequence[int]) -> dict[int, dict[str, Column]]:
    """Return the columns of the relations `oids`, by relation and name, in their order."""
    rows = await connection.fetch(
        """
        WITH RECURSIVE atts AS (
          SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attinhcount > 0 AS inherited
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
        ), base(start, typ) AS (
          SELECT DISTINCT atttypid, atttypid FROM atts
          UNION
          SELECT b.start, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ WHERE t.typtype = 'd'
        )
        SELECT a.attrelid::int8 AS relation, a.attname::text AS name, format_type(t.oid, NULL) AS type,
               t.typname::text AS base, t.typcategory::text AS category, t.typtype::text AS typtype,
               coalesce(e.typname::text, '') AS element,
               a.attnotnull AS not_null, a.inherited,
               has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
        FROM atts a
        JOIN base b ON b.start = a.atttypid
        JOIN pg_catalog.pg_type t ON t.oid = b.typ AND t.typtype <> 'd'
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
        ORDER BY a.attrelid, a.attnum
        """,
        [*oids],
        timeout=CATALOG_SECONDS,
    )
    found: dict[int, dict[str, Column]] = {oid: {} for oid in oids}
    for row in rows:
        values = dict(row)
        relation = values.pop("relation")
        found[relation][row["name"]] = Column(**values)
    return found


#: Everything whose rows a relation shows: partitions, children, and what views are made of, all the way down.
_TREE = """
WITH RECURSIVE tree(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT below.oid FROM tree CROSS JOIN LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = tree.oid
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
         AND d.refclassid = 'pg_catalog.pg_class'::regclass
    WHERE r.ev_class = tree.oid
  ) below
)
SELECT c.oid::int8 AS oid, c.relkind::text AS kind, n.nspname::text AS schema, c.relname::text AS name
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.oid
"""


async def tree(connection: asyncpg.Connection, oids: Sequence[int]) -> list[tuple[int, str, str]]:
    """Return `oids` and all that their rows come from, as (oid, relkind, label)."""
    rows = await connection.fetch(_TREE, [*oids], timeout=CATALOG_SECONDS)
    return [(row["oid"], row["kind"], f"{row['schema']}.{row['name']}") for row in rows]


async def mentioned(connection: asyncpg.Connection, queries: Sequence[str]) -> list[int]:
    """Return every relation whose name occurs in one of `queries`: a superset of what they read by name.

    What a function reads that they call is not seen; no catalog knows it either.
    """
    if not queries:
        return []
    text = "\n".join(queries).replace('""', '"').lower()
    rows = await connection.fetch(
        f"""
        SELECT c.oid::int8 AS oid, lower(c.relname::text) AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER_SCHEMAS} AND strpos($1, lower(c.relname::text)) > 0
        """,
        text,
        timeout=CATALOG_SECONDS,
    )
    return [row["oid"] for row in rows if re.search(rf"(?<!\w){re.escape(row['name'])}(?!\w)", text)]
