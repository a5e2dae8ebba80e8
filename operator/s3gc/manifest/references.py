"""The databases of a BucketGC, and what in them references objects."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from s3gc.manifest.base import Identifier, Key, Label, Part, SecretKeyRef, Template, ruled

__all__ = ["CDCSpec", "ColumnSpec", "DatabaseSpec", "QuerySpec", "ReferenceSpec", "TableSpec"]

Format = Literal["auto", "key", "url", "json", "text", "prefix"]
_FORMAT = (
    "How values are read: auto (every rule), key (the exact key), url, json, text, prefix (everything under it). "
    "Default: auto."
)
_KEY_PREFIXES = "Put before every key that a value yields, each in turn: a storage location, a store_dir."


class DatabaseSpec(Part):
    """Where the database is."""

    url_secret_ref: SecretKeyRef = Field(
        description="Secret key with the URL: postgresql://user:password@host/database, or mysql://…",
    )


class CDCSpec(Part):
    """Change capture: deletions are verified by the database's own stream of changes."""

    backend: Literal["postgres", "mysql"] = Field(description="Which database it is.")
    url_secret_ref: SecretKeyRef | None = Field(
        None,
        description="Secret key with the database's direct address, past any pooler. Default: the database's URL.",
    )
    max_lag_bytes: Annotated[int, Field(strict=True, ge=16 * 1024**2, le=2**53 - 1)] = Field(
        10 * 1024**3,
        description="How much of its log PostgreSQL may have to keep for a cycle before it rather stops deleting.",
    )


class ColumnSpec(Part):
    """A column whose values reference objects, or a template over columns."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            (
                "has(self.name) != has(self.template)",
                "give exactly one of name (a column) and template (a key composed of columns)",
            )
        )
    )

    name: Identifier | None = Field(None, description="Name of the column.")
    template: Template | None = Field(
        None, description="A key composed of columns, such as avatars/{tenant_id}/{id}.jpg."
    )
    format: Format = Field("auto", description=_FORMAT)
    key_prefixes: Annotated[tuple[Key, ...], Field(max_length=16)] = Field((), description=_KEY_PREFIXES)


class TableSpec(Part):
    """A table and its columns that reference objects."""

    table: Identifier = Field(description="Name of the table, as schema.table.")
    columns: Annotated[tuple[ColumnSpec, ...], Field(min_length=1, max_length=128)] = Field(
        description="Its columns that reference objects."
    )
    where: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="SQL condition on the rows that count. Default: every row."
    )


class QuerySpec(Part):
    """A query whose first column references objects."""

    name: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="What the query is called in results."
    )
    sql: Annotated[str, Field(min_length=1, max_length=16384)] = Field(
        description="A SELECT; its first column is read."
    )
    format: Format = Field("auto", description=_FORMAT)
    key_prefixes: Annotated[tuple[Key, ...], Field(max_length=16)] = Field((), description=_KEY_PREFIXES)


class ReferenceSpec(Part):
    """One database and what in it references objects."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            (
                "(has(self.tables) && self.tables.size() > 0) || (has(self.queries) && self.queries.size() > 0)",
                "a database without tables and queries references nothing: give tables or queries",
            )
        )
    )

    name: Label = Field(description="What the database is called in results.")
    database: DatabaseSpec = Field(description="Where the database is.")
    cdc: CDCSpec | None = Field(
        None, description="Change capture. Default: deletions are verified by query or by reading again."
    )
    tables: Annotated[tuple[TableSpec, ...], Field(max_length=256)] = Field(
        (), description="Tables and their columns that reference objects."
    )
    queries: Annotated[tuple[QuerySpec, ...], Field(max_length=64)] = Field(
        (), description="Queries whose first column references objects."
    )
    derivatives: Annotated[tuple[Template, ...], Field(max_length=64)] = Field(
        (), description="Keys that are kept with their parent, such as {stem}_thumb{ext} or resized/{key}."
    )
    ignore_columns: Annotated[tuple[Identifier, ...], Field(max_length=1024)] = Field(
        (), description="Columns, as schema.table.column, whose values are known not to reference objects."
    )

    @model_validator(mode="after")
    def _something_to_read(self) -> Self:
        if not self.tables and not self.queries:
            raise ValueError(
                "a database without tables and queries references nothing: give tables or queries"
            )
        return self
