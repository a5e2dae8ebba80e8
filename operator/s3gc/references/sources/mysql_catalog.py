"""What `information_schema` says about the tables of a policy on MySQL and MariaDB, and which server answers.

It shows only what our user has a right on: a table that is not there and one that may not be read look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from s3gc.references.sources.identifiers import Dialect
from s3gc.references.sources.mysql_session import Session

__all__ = [
    "DIALECT",
    "SHAPES",
    "SYSTEM_SCHEMAS",
    "Column",
    "Server",
    "Table",
    "literal",
    "load_server",
    "mentioned",
    "tables_of",
]

DIALECT = Dialect(quotes={"`": "`", '"': '"'}, folds_to_lower=False)

SYSTEM_SCHEMAS = "('mysql', 'information_schema', 'performance_schema', 'sys')"
_TEXTS = frozenset(
    {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json", "uuid"}
)
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_COMPARABLE = frozenset(
    {"utf8mb4", "utf8mb3", "utf8", "ucs2", "utf16", "utf16le", "utf32", "latin1", "ascii"}
)
#: Types whose values reference nothing.
SHAPES = frozenset(
    {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"}
    | {"geometrycollection"}
)


def literal(text: str | bytes) -> str:
    """Return a literal in hex: nothing in it can be misread, whatever sql_mode says of quotes and backslashes."""
    if isinstance(text, bytes):
        return f"X'{text.hex()}'"
    return f"_utf8mb4 X'{text.encode('utf-8', 'surrogatepass').hex()}'"


@dataclass(frozen=True, slots=True)
class Server:
    """Which server answers, and as whom. `identity` tells it from another behind the same address."""

    identity: tuple[str, ...]
    user: str
    read_only: bool
    proxied: bool


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str  # data_type: varchar
    full_type: str  # column_type: varchar(255)
    charset: str
    not_null: bool

    @property
    def is_binary(self) -> bool:
        return self.type in _BINARIES

    @property
    def is_text(self) -> bool:
        return self.type in _TEXTS

    @property
    def compared(self) -> str:
        """What exact values are compared with. The column itself, which an index can serve, where every literal
        that is asked for has its charset (see `mysql_values`)."""
        if self.is_text and self.charset and self.charset not in _COMPARABLE:
            return f"CONVERT({DIALECT.quote(self.name)} USING utf8mb4)"
        return self.sql

    @property
    def sql(self) -> str:
        """The column as text or bytes; numbers and times as the server itself writes them."""
        name = DIALECT.quote(self.name)
        if self.is_binary or (self.is_text and self.type != "uuid"):
            return name
        return f"CAST({name} + 0 AS CHAR)" if self.type == "bit" else f"CAST({name} AS CHAR)"


@dataclass(frozen=True, slots=True)
class Table:
    schema: str
    name: str
    kind: str  # BASE TABLE, VIEW, …
    engine: str
    columns: dict[str, Column]
    indexes: dict[str, str]  # first column of an index -> its name
    primary: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{DIALECT.quote(self.schema)}.{DIALECT.quote(self.name)}"

    @property
    def is_view(self) -> bool:
        return self.kind != "BASE TABLE" and self.kind != "SYSTEM VERSIONED"


async def load_server(session: Session) -> Server:
    """Ask who answers. Variables that only one of MySQL and MariaDB has are asked for by SHOW."""
    ((user, version),) = await session.rows("SELECT CURRENT_USER(), VERSION()")
    variables = {
        str(name).lower(): str(value)
        for name, value in await session.rows(
            "SHOW VARIABLES WHERE Variable_name IN ('hostname', 'port', 'server_id', 'server_uuid', 'server_uid', "
            "'read_only', 'super_read_only', 'innodb_read_only')"
        )
    }
    names = ("hostname", "port", "server_id", "server_uuid", "server_uid")
    return Server(
        identity=(str(version), *(variables.get(name, "") for name in names)),
        user=str(user),
        read_only=any(
            variables.get(name, "OFF").upper() in ("ON", "1")
            for name in ("read_only", "super_read_only", "innodb_read_only")
        ),
        proxied=session.thread_id != session.connection.thread_id(),
    )


async def tables_of(session: Session, names: Iterable[tuple[str, str]]) -> list[Table]:
    """Return the tables `names` (schema and name) with their columns and indexes, as far as we may see them."""
    found: list[Table] = []
    for schema, name in dict.fromkeys(names):
        here = f"table_schema = {literal(schema)} AND table_name = {literal(name)}"
        heads = await session.rows(f"SELECT table_type, engine FROM information_schema.tables WHERE {here}")
        columns = await session.rows(
            "SELECT column_name, data_type, column_type, character_set_name, is_nullable "
            f"FROM information_schema.columns WHERE {here} ORDER BY ordinal_position"
        )
        keys = await session.rows(
            "SELECT index_name, column_name, seq_in_index, index_type FROM information_schema.statistics "
            f"WHERE {here} ORDER BY index_name, seq_in_index"
        )
        if not heads:
            continue
        found.append(
            Table(
                schema=schema,
                name=name,
                kind=str(heads[0][0]),
                engine=str(heads[0][1] or ""),
                columns={
                    str(c): Column(str(c), str(t).lower(), str(f), str(cs or ""), str(null).upper() == "NO")
                    for c, t, f, cs, null in columns
                },
                indexes={
                    str(c): str(i) for i, c, seq, of in keys if int(seq) == 1 and str(of).upper() == "BTREE"
                },
                primary=tuple(str(c) for i, c, _, _ in keys if str(i) == "PRIMARY"),
            )
        )
    return found


def mentioned(text: str, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of `names` (schema and table) whose table name occurs in `text`: a superset of what it reads."""
    lowered = text.replace("``", "`").lower()
    return [
        (schema, name)
        for schema, name in names
        if name.lower() in lowered and re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered)
    ]
