"""The whole policy as one frozen value: what the engine needs, and nothing of Kubernetes.

Everything here is checked when it is made and never changes afterwards. `builder.create_config` is how people make
one, `policy` reads the same from a `BucketGC` manifest; both end here, so there is one set of names, bounds and
defaults. Sizes are bytes, durations have their unit in the name.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from s3gc.exceptions import ConfigurationError, host_of, redact

__all__ = [
    "RESERVED_PREFIX",
    "Approval",
    "BaseURL",
    "CDCBackend",
    "CDCConfig",
    "ColumnConfig",
    "Deletion",
    "DeletionCondition",
    "GCMode",
    "Limits",
    "QueryConfig",
    "ReferenceFormat",
    "S3GCConfig",
    "SourceConfig",
    "TableConfig",
    "Versions",
    "configuration_problems",
    "describe_errors",
    "list_problems",
]

#: Keys under this prefix of a bucket belong to s3gc (claims, probes) and are never in any scope.
RESERVED_PREFIX = ".s3gc/"

_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
_IPV4 = re.compile(r"^\d{1,3}(\.\d{1,3}){3}$")
_DAILY = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)$")
_NAME = re.compile(r"^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?$")
_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "postgresql+asyncpg": "postgresql",
    "postgresql+psycopg": "postgresql",
    "postgresql+psycopg2": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "mysql+asyncmy": "mysql",
    "mysql+aiomysql": "mysql",
    "mysql+pymysql": "mysql",
    "mariadb+asyncmy": "mysql",
    "mariadb+pymysql": "mysql",
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(
        {"url": "URL", "urls": "URLs", "id": "ID"}.get(part, part.capitalize()) for part in rest
    )


class _Value(BaseModel):
    """Frozen, strict about names; accepts `snake_case` and the manifest's `camelCase`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_camel, populate_by_name=True)


class GCMode(StrEnum):
    """What a cycle may do. Each includes what stands before it."""

    DRY_RUN = "dry_run"
    AUDIT_ONLY = "audit_only"
    EXECUTE = "execute"


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Versions(StrEnum):
    """In a versioned bucket: leave a delete marker only, or also purge the proven noncurrent version later."""

    MARKER = "marker"
    PURGE = "purge"


class DeletionCondition(StrEnum):
    """Where a store ignores the condition on DELETE: refuse, or HEAD first and accept the remaining race."""

    REQUIRED = "required"
    BEST_EFFORT = "best_effort"


class CDCBackend(StrEnum):
    POSTGRES = "postgres"
    MYSQL = "mysql"


class ReferenceFormat(StrEnum):
    """How a value is read. AUTO applies every rule; KEY means the exact key (with or without a leading slash)."""

    AUTO = "auto"
    KEY = "key"
    URL = "url"
    JSON = "json"
    TEXT = "text"
    PREFIX = "prefix"


def _enum_spelling(value: object) -> object:
    """`DryRun`, `dry-run` and `dry_run` are one value."""
    if isinstance(value, str) and not isinstance(value, StrEnum):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value).replace("-", "_").lower()
    return value


_Spelled = BeforeValidator(_enum_spelling)


def _prefix(value: str) -> str:
    if len(value.encode()) > 1024:
        raise ValueError(f"prefix is longer than a key may be (1,024 bytes): {value[:60]!r}…")
    if value.startswith("/"):
        raise ValueError(
            f"prefix {value!r} starts with '/'; keys in a bucket do not: write {value.lstrip('/')!r}"
        )
    # Taken literally these match nothing, and what somebody meant to exclude would not be.
    if value.endswith("*"):
        raise ValueError(
            f"prefix {value!r} ends in '*'; a prefix is what keys begin with, no pattern: write {value.rstrip('*')!r}"
        )
    if "://" in value or value.startswith("./"):
        raise ValueError(
            f"prefix {value!r} is no beginning of a key; write what keys begin with, as a listing shows it"
        )
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]


class BaseURL(_Value):
    """A URL (or path) under which this bucket is served. `url` + rest names the key `key_prefix` + rest."""

    url: str = Field(min_length=1, max_length=2048)
    key_prefix: str = Field(default="", max_length=1024)


class ColumnConfig(_Value):
    """One column whose values reference objects, or a `template` such as ``avatars/{tenant_id}/{id}.jpg`` over columns.

    `key_prefixes` are put before every key that a value yields (Django's storage location, CarrierWave's store_dir).
    """

    name: str | None = Field(default=None, min_length=1, max_length=256)
    template: str | None = Field(default=None, min_length=1, max_length=1024)
    format: Annotated[ReferenceFormat, _Spelled] = ReferenceFormat.AUTO
    key_prefixes: tuple[str, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.name is None) == (self.template is None):
            raise ValueError("give exactly one of name (a column) and template (a key composed of columns)")
        if self.template is not None and not self.template_columns:
            raise ValueError(
                f"template {self.template!r} has no {{column}} in it; use a query for constant keys"
            )
        return self

    @property
    def template_columns(self) -> tuple[str, ...]:
        """The columns that the template reads, in order, each once; empty for a plain column."""
        if self.template is None:
            return ()
        try:
            names = [field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None]
        except ValueError as error:
            raise ValueError(f"template {self.template!r}: {error}") from None
        if any(not name for name in names):
            raise ValueError(f"template {self.template!r} has an empty {{}}; name the column")
        return tuple(dict.fromkeys(names))

    @property
    def label(self) -> str:
        return self.name or f"template {self.template}"


class TableConfig(_Value):
    """A table (``schema.table``; quoted by us, never interpolated) and the columns in it that reference objects."""

    table: str = Field(min_length=1, max_length=256)
    columns: tuple[ColumnConfig, ...] = Field(min_length=1, max_length=128)
    where: str | None = Field(default=None, max_length=4096)

    @field_validator("columns", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError("columns is a list of columns, not one string")
        if isinstance(value, (list, tuple)):
            return tuple({"name": item} if isinstance(item, str) else item for item in value)
        return value


class QueryConfig(_Value):
    """A query whose first column references objects."""

    name: str = Field(min_length=1, max_length=128)
    sql: str = Field(min_length=1, max_length=16384)
    format: Annotated[ReferenceFormat, _Spelled] = ReferenceFormat.AUTO
    key_prefixes: tuple[str, ...] = Field(default=(), max_length=16)


#: How much of its log a PostgreSQL may have to keep for a cycle that follows it before the cycle rather ends.
MAX_LAG_BYTES = 10 * 1024**3


class CDCConfig(_Value):
    """How changes are captured. `url` is the direct address, past any pooler; `max_lag_bytes` is PostgreSQL's alone."""

    backend: Annotated[CDCBackend, _Spelled]
    url: SecretStr | None = None
    max_lag_bytes: int = Field(default=MAX_LAG_BYTES, ge=16 * 1024**2, le=2**53 - 1)


class SourceConfig(_Value):
    """One database and what in it references objects.

    `derivatives` are templates over a referenced key that keep what was made from it: ``{key}``, ``{dir}`` (with its
    slash), ``{name}``, ``{stem}`` (the key without its extension), ``{ext}`` (with its dot).
    """

    name: str = Field(default="database", min_length=1, max_length=63)
    url: SecretStr | None = None
    tables: tuple[TableConfig, ...] = Field(default=(), max_length=256)
    queries: tuple[QueryConfig, ...] = Field(default=(), max_length=64)
    derivatives: tuple[str, ...] = Field(default=(), max_length=64)
    ignore_columns: tuple[str, ...] = Field(default=(), max_length=1024)
    cdc: CDCConfig | None = None

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _check_database_url(value.get_secret_value())
        return value

    @field_validator("derivatives")
    @classmethod
    def _derivatives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = {"key", "dir", "name", "stem", "ext"}
        for template in value:
            try:
                fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
            except ValueError as error:
                raise ValueError(f"derivative {template!r}: {error}") from None
            if not fields:
                raise ValueError(
                    f"derivative {template!r} names no part of its parent; use {{key}} or {{stem}}…{{ext}}"
                )
            if fields - known:
                raise ValueError(
                    f"derivative {template!r} has unknown parts {sorted(fields - known)}; known: {sorted(known)}"
                )
        return value

    @property
    def dialect(self) -> str:
        """``postgresql``, ``mysql`` or ``sqlite``."""
        return _SCHEMES[self.connection_url.partition(":")[0].lower()]

    @property
    def connection_url(self) -> str:
        """The URL with its credentials; never show it, see `location`."""
        if self.url is None:
            raise ConfigurationError(
                f"source {self.name!r} has no database URL; set url (library), database_url, or $DATABASE_URL"
            )
        return self.url.get_secret_value()

    @property
    def location(self) -> str:
        """Scheme, host and database, without credentials."""
        return host_of(self.connection_url) if self.url is not None else "no database"

    @property
    def is_readable(self) -> bool:
        """Whether there is a database and something to read in it."""
        return self.url is not None and bool(self.tables or self.queries)


def _check_database_url(url: str) -> None:
    scheme = url.partition(":")[0].lower()
    if "://" not in url or scheme not in _SCHEMES:
        shown = scheme if "://" in url else "(no scheme)"
        raise ValueError(
            f"database URL has scheme {shown!r}; use postgresql://, mysql:// (also mariadb://) or sqlite:///path"
        )


class Limits(_Value):
    """Numbers of the guards (section "Guards" of docs/safety.md). `None` switches a cap off."""

    min_references: int = Field(default=1, ge=0)
    max_reference_drop_percent: float = Field(default=20, ge=0, le=100)
    min_resolved_percent: float = Field(default=10, ge=0, le=100)
    max_unparsed_percent: float = Field(default=5, ge=0, le=100)
    max_delete_percent: float | None = Field(default=10, ge=0, le=100)
    max_delete_objects: int | None = Field(default=None, ge=0)
    max_delete_bytes: int | None = Field(default=None, ge=0)
    max_plan_age_hours: float = Field(default=24, gt=0, le=24 * 30)


class Deletion(_Value):
    condition: Annotated[DeletionCondition, _Spelled] = DeletionCondition.REQUIRED


class S3GCConfig(BaseModel):
    """The policy. Immutable; `with_updates(**changes)` returns a checked copy.

    Make one with `s3gc.create_config`, which reports every problem at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # --- the bucket and the scope in it
    bucket: str
    name: str = (
        ""  # of the policy; default: the bucket's. Chooses the scope in a vault that several policies share.
    )
    region: str = "us-east-1"
    endpoint_url: str | None = None
    path_style: bool | None = None  # None: path style for a custom endpoint, virtual hosts for AWS
    prefixes: tuple[Prefix, ...] = Field(default=(), max_length=256)  # empty: the whole bucket
    exclude_prefixes: tuple[Prefix, ...] = Field(default=(), max_length=1024)
    base_urls: tuple[BaseURL, ...] = Field(default=(), max_length=64)
    foreign_hosts: tuple[str, ...] = Field(default=(), max_length=1024)

    # --- what references it
    tables: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    database_url: SecretStr | None = None
    sources: tuple[SourceConfig, ...] = Field(default=(), max_length=64)
    cdc_backend: Annotated[CDCBackend | None, _Spelled] = None
    cdc_connection_url: SecretStr | None = Field(default=None, validate_default=True)

    # --- what may be done
    mode: Annotated[GCMode, _Spelled] = GCMode.DRY_RUN
    retention_days: float = Field(default=7, ge=0, le=36500)
    unreferenced_days: float = Field(default=0, ge=0, le=36500)
    approval: Annotated[Approval, _Spelled] = Approval.AUTOMATIC
    limits: Limits = Limits()
    versions: Annotated[Versions, _Spelled] = Versions.MARKER
    deletion: Deletion = Deletion()
    restore_hold_days: float = Field(default=30, ge=0, le=36500)

    # --- the vault
    vault_path: str = "./s3gc_vault"  # a folder, or s3://bucket/prefix
    # for an S3 vault; None: as AWS's environment says
    vault_endpoint_url: str | None = Field(default=None, validate_default=True)
    vault_region: str | None = None
    vault_path_style: bool | None = None
    vault_storage_class: str | None = None
    vault_kms_key_id: str | None = None
    vault_retention_days: float = Field(default=90, ge=0, le=36500)
    compression_level: int = Field(default=3, ge=1, le=19)

    # --- when
    schedule_cron: str | None = None
    time_zone: str = "UTC"

    # --- how much of the machine and the store it may use
    concurrency: int = Field(default=32, ge=1, le=512)  # requests in flight
    requests_per_second: float | None = Field(
        default=None, gt=0
    )  # None: only the store's own SlowDown limits
    memory_limit_mb: int = Field(default=512, ge=64)  # of the join; the process needs about 600 MB more
    work_dir: str | None = None  # default: a folder of its own under the system's temporary directory
    pack_size_bytes: int = Field(default=64 * 1024 * 1024, ge=64 * 1024)
    group_objects: int = Field(default=1000, ge=1, le=100_000)  # of the second group; later ones adapt
    canary_objects: int = Field(default=20, ge=1, le=10_000)  # of the first group
    barrier_timeout_seconds: float = Field(default=300, gt=0)
    deadline_seconds: float | None = Field(default=None, gt=0)

    @field_validator("bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if not _BUCKET.match(value) or ".." in value or _IPV4.match(value):
            raise ValueError(
                f"{value!r} is not a bucket name: 3 to 63 of a-z, 0-9, '.' and '-', no '..', not an IP address"
            )
        return value

    @field_validator("name")
    @classmethod
    def _policy_name(cls, value: str) -> str:
        if value and not _NAME.match(value):
            raise ValueError(f"{value!r} is not a policy name: letters, digits, '.', '_' and '-'")
        return value

    @field_validator("tables", mode="before")
    @classmethod
    def _tables(cls, value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError('tables is a mapping of table to columns: {"users": ["avatar_url"]}')
        for table, columns in value.items():
            if isinstance(columns, str) or not isinstance(columns, (list, tuple)) or not columns:
                raise ValueError(
                    f'tables["{table}"] is a non-empty list of columns: {{"{table}": ["avatar_url"]}}'
                )
            if not all(isinstance(column, str) and column for column in columns):
                raise ValueError(f'tables["{table}"] has a column that is not a non-empty string')
        return value

    @field_validator("database_url", "cdc_connection_url")
    @classmethod
    def _url(cls, value: SecretStr | None) -> SecretStr | None:
        # An example such as "postgresql://..." must be accepted: whether it connects is found out when it is used.
        if value is not None:
            _check_database_url(value.get_secret_value())
        return value

    @field_validator("endpoint_url", "vault_endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{redact(value)!r} is not an endpoint: write http://host:port or https://host")
        if parts.username or parts.password:
            raise ValueError(
                "an endpoint carries no credentials; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if parts.path.strip("/") or parts.query:
            raise ValueError(f"{value!r} has a path or query; an endpoint is only scheme, host and port")
        return value.rstrip("/")

    @field_validator("vault_path", mode="before")
    @classmethod
    def _vault(cls, value: object) -> object:
        text = os.fspath(value) if isinstance(value, (str, Path)) else value
        if isinstance(text, str) and text.startswith("s3://"):
            bucket, _, _ = text.removeprefix("s3://").partition("/")
            if not _BUCKET.match(bucket):
                raise ValueError(f"{text!r}: {bucket!r} is not a bucket name")
        elif isinstance(text, str) and "://" in text:
            raise ValueError(f"{redact(text)!r}: a vault is a folder or s3://bucket/prefix")
        elif text == "":
            raise ValueError("the vault's path is empty; give a folder or s3://bucket/prefix")
        return text

    @field_validator("foreign_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if "/" in host or "://" in host or not host:
                raise ValueError(f"{host!r} is not a host name; write only the host, as in www.gravatar.com")
        return tuple(host.lower().rstrip(".") for host in value)

    @field_validator("schedule_cron")
    @classmethod
    def _schedule(cls, value: str | None) -> str | None:
        if value is None:
            return None
        text = value.strip()
        if _DAILY.match(text):
            return text
        from cronsim import CronSim, CronSimError  # only where a schedule is used

        try:
            if len(text.split()) != 5:
                raise CronSimError("not five fields")
            from datetime import UTC, datetime

            CronSim(text, datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(
                f'{value!r} is not a schedule: write "HH:MM" (daily) or five cron fields ({error})'
            ) from None
        return text

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"{value!r} is not a time zone of the IANA database, such as Europe/Berlin"
            ) from None
        return value

    @field_validator("exclude_prefixes")
    @classmethod
    def _excluded(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("the empty prefix excludes everything")
        return value

    @field_validator("sources")
    @classmethod
    def _sources(cls, value: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
        names = [source.name for source in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources are named {', '.join(map(repr, twice))}")
        return value

    @field_validator("cdc_connection_url")
    @classmethod
    def _cdc(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # A field that is itself wrong is not in `data`; whether it would have served is not judged then.
        given = info.data
        is_lost = given.get("database_url", ...) is None and given.get("sources", ...) == ()
        if value is None and given.get("cdc_backend") is not None and is_lost:
            raise ValueError("cdc_backend is set, and nothing says which database to follow")
        if given.get("cdc_backend") is not None and given.get("sources") and given.get("tables") == {}:
            # Ignored silently, it would leave its owner in the belief that changes are captured.
            raise ValueError("cdc_backend is for the database of `tables`; a source takes its own cdc")
        return value

    @field_validator("vault_endpoint_url")
    @classmethod
    def _vault_beside_the_bucket(cls, value: str | None, info: ValidationInfo) -> str | None:
        path = info.data.get("vault_path", "")
        if path.startswith("s3://"):
            bucket, _, prefix = path.removeprefix("s3://").partition("/")
            is_here = bucket == info.data.get("bucket") and value in (None, info.data.get("endpoint_url"))
            if is_here and not prefix.strip("/"):
                raise ValueError(
                    f"the vault {path} is the root of the bucket itself; give it a prefix or, better, another bucket"
                )
        return value

    @field_validator("vault_retention_days")
    @classmethod
    def _purge_needs_a_memory(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("versions") is Versions.PURGE and value < 1:
            raise ValueError(
                "versions: purge makes the vault the only place where a purged object is, so vault_retention_days "
                f"must be at least 1 ({value:g} would forget it at once)"
            )
        return value

    def with_updates(self, **changes: Any) -> S3GCConfig:
        """Return a checked copy with `changes`; raises ConfigurationError with every problem."""
        values: dict[str, Any] = {field: getattr(self, field) for field in self.model_fields_set}
        try:
            return S3GCConfig(**{**values, **changes})
        except ValidationError as error:
            raise describe_errors(error) from None

    @property
    def policy_name(self) -> str:
        return self.name or self.bucket

    @property
    def effective_prefixes(self) -> tuple[str, ...]:
        """The scope's prefixes, none inside another; `("",)` for the whole bucket."""
        ordered = sorted(set(self.prefixes)) or [""]
        kept: list[str] = []
        for prefix in ordered:
            if not kept or not prefix.startswith(kept[-1]):
                kept.append(prefix)
        return tuple(kept)

    @property
    def effective_sources(self) -> tuple[SourceConfig, ...]:
        """`sources`, after one made of `tables` and `database_url`, `cdc_connection_url` or $DATABASE_URL."""
        if not self.tables:
            return self.sources
        url = self.database_url or self.cdc_connection_url
        if url is None and (found := os.environ.get("DATABASE_URL")):
            try:
                _check_database_url(found)
            except ValueError as error:
                raise ConfigurationError(f"$DATABASE_URL: {error}") from None
            url = SecretStr(found)
        taken = {source.name for source in self.sources}
        name = next(n for n in ("database", *(f"database-{i}" for i in range(2, 99))) if n not in taken)
        cdc = CDCConfig(backend=self.cdc_backend, url=self.cdc_connection_url) if self.cdc_backend else None
        tables = tuple(TableConfig(table=table, columns=columns) for table, columns in self.tables.items())
        return (SourceConfig(name=name, url=url, tables=tables, cdc=cdc), *self.sources)

    @property
    def has_source(self) -> bool:
        return any(source.is_readable for source in self.effective_sources)


def describe_errors(error: ValidationError, *, names: Mapping[str, str] | None = None) -> ConfigurationError:
    """Turn pydantic's report into one ConfigurationError that lists every problem as ``field: what is wrong``.

    `names` renames first path elements, so that a manifest's reader sees the manifest's own names.
    """
    return configuration_problems(list_problems(error, names=names))


def list_problems(
    error: ValidationError,
    *,
    names: Mapping[str, str] | None = None,
    where: Callable[[Sequence[str | int]], str] | None = None,
    known: Iterable[str] = (),
) -> list[str]:
    """Return every problem that pydantic found as ``field: what is wrong``, without credentials.

    `names` renames first path elements, `where` writes whole paths; `known` are the names to suggest for one that
    does not exist, those of the configuration by default.
    """
    problems: list[str] = []
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        if path and names:
            path[0] = names.get(path[0], path[0])
        place = where(item["loc"]) if where else ".".join(path)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting" + _nearest(path[-1] if path else "", known)
        problems.append(redact(f"{place}: {message}" if place else message))
    return problems


def configuration_problems(problems: Sequence[str]) -> ConfigurationError:
    """One ConfigurationError that lists `problems`, each a line; `details["errors"]` has them for programs."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  - {line}" for line in problems)
    return ConfigurationError(f"the configuration has {count}:\n{lines}", details={"errors": list(problems)})


def _nearest(name: str, known: Iterable[str] = ()) -> str:
    import difflib

    names = [*known] or [*S3GCConfig.model_fields, *SourceConfig.model_fields, *Limits.model_fields]
    found = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {found[0]!r}?" if found else ""
