"""How people make a policy: `create_config(…)` with keywords, small steps over a draft, or the environment.

All three end in `S3GCConfig`, and all report every problem at once. A draft is a frozen value: each step
returns another one, so a half-built policy can be shared and varied without surprises. Nothing is judged
before `build_config`, which sees the whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, Unpack

from pydantic import SecretStr, ValidationError

from s3gc.config import (
    Approval,
    BaseURL,
    CDCBackend,
    Deletion,
    GCMode,
    Limits,
    S3GCConfig,
    SourceConfig,
    Versions,
    configuration_problems,
    list_problems,
)
from s3gc.exceptions import redact
from s3gc.names import read_environment

__all__ = [  # and with_<field> for every field of S3GCConfig
    "Draft",
    "Settings",
    "Step",
    "audit_only_mode",
    "build_config",
    "build_from_steps",
    "create_config",
    "create_config_from_env",
    "create_empty_config",
    "dry_run_mode",
    "enable_cdc",
    "enable_vault",
    "exclude_prefix",
    "exclude_prefixes",
    "execute_mode",
    "pipe",
    "retain_objects_older_than",
    "run_daily_at",
    "scan_table",
    "with_bucket",
]

_T = TypeVar("_T")

#: What earlier tools of this kind called their switches, and why there is none here.
_RETIRED: Mapping[str, str] = MappingProxyType(
    {
        "backup_before_delete": "every deletion is backed up and proven first; leave it out",
        "compress_backups": "backups are always compressed; see compression_level",
        "verify_before_delete": "every deletion is verified first; leave it out",
        "replication_enabled": "keep the vault in S3 instead: vault_path='s3://bucket/prefix'",
        "replication_url": "keep the vault in S3 instead: vault_path='s3://bucket/prefix'",
        "backup_remote_storage": "keep the vault in S3 instead: vault_path='s3://bucket/prefix'",
        "max_concurrent_ops": "it is called concurrency",
        "s3_list_batch_size": "a listing always takes the largest pages; leave it out",
    }
)


class Settings(TypedDict, total=False):
    """The keywords of `create_config` beyond those in its signature: every other field of `S3GCConfig`."""

    name: str
    endpoint_url: str | None
    path_style: bool | None
    prefixes: Sequence[str]
    base_urls: Sequence[BaseURL | Mapping[str, str]]
    foreign_hosts: Sequence[str]
    database_url: str | SecretStr | None
    sources: Sequence[SourceConfig | Mapping[str, Any]]
    unreferenced_days: float
    approval: str | Approval
    limits: Limits | Mapping[str, float | None]
    versions: str | Versions
    deletion: Deletion | Mapping[str, str]
    restore_hold_days: float
    vault_endpoint_url: str | None
    vault_region: str | None
    vault_path_style: bool | None
    vault_storage_class: str | None
    vault_kms_key_id: str | None
    vault_retention_days: float
    compression_level: int
    time_zone: str
    concurrency: int
    requests_per_second: float | None
    memory_limit_mb: int
    work_dir: str | None
    pack_size_bytes: int
    group_objects: int
    canary_objects: int
    barrier_timeout_seconds: float
    deadline_seconds: float | None


def create_config(
    bucket: str,
    *,
    region: str = "us-east-1",
    tables: Mapping[str, Sequence[str]] | None = None,
    mode: str | GCMode = "dry_run",
    retention_days: float = 7,
    exclude_prefixes: Sequence[str] | None = None,
    vault_path: str | Path = "./s3gc_vault",
    cdc_backend: str | CDCBackend | None = None,
    cdc_connection_url: str | SecretStr | None = None,
    schedule_cron: str | None = None,
    **settings: Unpack[Settings],
) -> S3GCConfig:
    """Make a policy from keywords; only `bucket` is required, and the default mode deletes nothing.

    Every field of `S3GCConfig` is a keyword (docs/policy.md lists them); None means the field's default.
    Raises ConfigurationError whose `details["errors"]` lists every problem, an unknown keyword with the
    nearest known one.
    """
    values: dict[str, object] = {
        "bucket": bucket,
        "region": region,
        "tables": tables,
        "mode": mode,
        "retention_days": retention_days,
        "exclude_prefixes": exclude_prefixes,
        "vault_path": vault_path,
        "cdc_backend": cdc_backend,
        "cdc_connection_url": cdc_connection_url,
        "schedule_cron": schedule_cron,
    }
    return _validated({**values, **settings})


def create_config_from_env(
    *,
    tables: Mapping[str, Sequence[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: object,
) -> S3GCConfig:
    """Make a policy from variables (`S3GC_BUCKET`, `S3GC_MODE`, … and the standard ones; docs/policy.md
    lists them).

    Keywords win over variables. `environ` is the process's own unless given. Raises ConfigurationError
    naming the variables that are wrong.
    """
    unreadable: list[str] = []
    values, origins = read_environment(os.environ if environ is None else environ, unreadable)
    given = {key: value for key, value in {"tables": tables, **settings}.items() if value is not None}
    names = {key: variable for key, variable in origins.items() if key not in given}
    return _validated({**values, **given}, names={"bucket": "S3GC_BUCKET", **names}, problems=unreadable)


@dataclass(frozen=True, slots=True)
class Draft:
    """An unfinished policy: settings by field, not judged yet. Steps return another draft and leave this
    one alone."""

    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def set(self, name: str, value: object) -> Draft:
        return Draft(MappingProxyType({**self.settings, name: value}))

    def __repr__(self) -> str:
        return f"Draft({redact(', '.join(f'{name}={value!r}' for name, value in self.settings.items()))})"


Step = Callable[[Draft], Draft]


def create_empty_config() -> Draft:
    """Return a draft with every setting at its default and no bucket yet."""
    return Draft()


def build_config(config: Draft | Mapping[str, object] | S3GCConfig) -> S3GCConfig:
    """Judge a draft (or a mapping of fields) as a whole and return the policy. Raises ConfigurationError."""
    if isinstance(config, S3GCConfig):
        return config
    return _validated(config.settings if isinstance(config, Draft) else config)


def pipe(*steps: Step) -> Step:
    """Return one step that takes `steps` in order: ``pipe(execute_mode, lambda c: with_bucket(c, "b"))``."""

    def taken(config: Draft) -> Draft:
        for step in steps:
            config = step(config)
        return config

    return taken


def build_from_steps(*steps: Step) -> S3GCConfig:
    """Take `steps` from an empty draft and build the policy. Raises ConfigurationError."""
    return build_config(pipe(*steps)(create_empty_config()))


def with_bucket(config: Draft, name: str) -> Draft:
    """Set the bucket to clean."""
    return config.set("bucket", name)


def scan_table(config: Draft, table: str, columns: Sequence[str]) -> Draft:
    """Add a table and those of its columns that reference objects; the same table again adds columns."""
    tables = config.settings.get("tables") or {}
    if not isinstance(tables, Mapping):
        return config  # build_config says what is wrong with it
    if not isinstance(columns, str):  # one string is a mistake that build_config names
        present = tables.get(table, ())
        columns = (*present, *(column for column in columns if column not in present))
    return config.set("tables", {**tables, table: columns})


def exclude_prefixes(config: Draft, prefixes: Sequence[str]) -> Draft:
    """Add prefixes that are never touched."""
    if isinstance(prefixes, str):
        return exclude_prefix(config, prefixes)
    present = config.settings.get("exclude_prefixes") or ()
    return config.set("exclude_prefixes", (*present, *prefixes))  # type: ignore[misc]  # judged by build_config


def exclude_prefix(config: Draft, prefix: str) -> Draft:
    """Add one prefix that is never touched."""
    return exclude_prefixes(config, (prefix,))


def dry_run_mode(config: Draft) -> Draft:
    """Plan and report, change nothing (the default)."""
    return config.set("mode", GCMode.DRY_RUN)


def audit_only_mode(config: Draft) -> Draft:
    """Also verify each candidate and write the audit, delete nothing."""
    return config.set("mode", GCMode.AUDIT_ONLY)


def execute_mode(config: Draft) -> Draft:
    """Back up, verify and delete."""
    return config.set("mode", GCMode.EXECUTE)


def retain_objects_older_than(config: Draft, days: float) -> Draft:
    """Only objects older than `days` may become candidates."""
    return config.set("retention_days", days)


def enable_vault(config: Draft, vault_path: str | Path) -> Draft:
    """Keep backups in a folder, or under `s3://bucket/prefix`."""
    return config.set("vault_path", vault_path)


def enable_cdc(config: Draft, backend: str | CDCBackend, connection_url: str) -> Draft:
    """Follow changes while sweeping: `postgres` or `mysql`, over the database's direct address."""
    return config.set("cdc_backend", backend).set("cdc_connection_url", connection_url)


def run_daily_at(config: Draft, time: str) -> Draft:
    """Run every day at `HH:MM` of the policy's time zone."""
    return config.set("schedule_cron", time)


def with_max_concurrent_ops(config: Draft, max_ops: int) -> Draft:
    """Set how many requests are in flight; the same as `with_concurrency`."""
    return config.set("concurrency", max_ops)


def _setter(name: str) -> Callable[[Draft, _T], Draft]:
    def step(config: Draft, value: _T) -> Draft:
        return config.set(name, value)

    step.__name__ = step.__qualname__ = f"with_{name}"
    step.__doc__ = f"Set `{name}` of S3GCConfig; the last call counts."
    return step


Days = float
Tables = Mapping[str, Sequence[str]]

with_name: Callable[[Draft, str], Draft] = _setter("name")
with_region: Callable[[Draft, str], Draft] = _setter("region")
with_endpoint_url: Callable[[Draft, str | None], Draft] = _setter("endpoint_url")
with_path_style: Callable[[Draft, bool | None], Draft] = _setter("path_style")
with_prefixes: Callable[[Draft, Sequence[str]], Draft] = _setter("prefixes")
with_exclude_prefixes: Callable[[Draft, Sequence[str]], Draft] = _setter("exclude_prefixes")
with_base_urls: Callable[[Draft, Sequence[BaseURL | Mapping[str, str]]], Draft] = _setter("base_urls")
with_foreign_hosts: Callable[[Draft, Sequence[str]], Draft] = _setter("foreign_hosts")
with_tables: Callable[[Draft, Tables], Draft] = _setter("tables")
with_database_url: Callable[[Draft, str | SecretStr | None], Draft] = _setter("database_url")
with_sources: Callable[[Draft, Sequence[SourceConfig | Mapping[str, Any]]], Draft] = _setter("sources")
with_cdc_backend: Callable[[Draft, str | CDCBackend | None], Draft] = _setter("cdc_backend")
with_cdc_connection_url: Callable[[Draft, str | SecretStr | None], Draft] = _setter("cdc_connection_url")
with_mode: Callable[[Draft, str | GCMode], Draft] = _setter("mode")
with_retention_days: Callable[[Draft, Days], Draft] = _setter("retention_days")
with_unreferenced_days: Callable[[Draft, Days], Draft] = _setter("unreferenced_days")
with_approval: Callable[[Draft, str | Approval], Draft] = _setter("approval")
with_limits: Callable[[Draft, Limits | Mapping[str, float | None]], Draft] = _setter("limits")
with_versions: Callable[[Draft, str | Versions], Draft] = _setter("versions")
with_deletion: Callable[[Draft, Deletion | Mapping[str, str]], Draft] = _setter("deletion")
with_restore_hold_days: Callable[[Draft, Days], Draft] = _setter("restore_hold_days")
with_vault_path: Callable[[Draft, str | Path], Draft] = _setter("vault_path")
with_vault_endpoint_url: Callable[[Draft, str | None], Draft] = _setter("vault_endpoint_url")
with_vault_region: Callable[[Draft, str | None], Draft] = _setter("vault_region")
with_vault_path_style: Callable[[Draft, bool | None], Draft] = _setter("vault_path_style")
with_vault_storage_class: Callable[[Draft, str | None], Draft] = _setter("vault_storage_class")
with_vault_kms_key_id: Callable[[Draft, str | None], Draft] = _setter("vault_kms_key_id")
with_vault_retention_days: Callable[[Draft, Days], Draft] = _setter("vault_retention_days")
with_compression_level: Callable[[Draft, int], Draft] = _setter("compression_level")
with_schedule_cron: Callable[[Draft, str | None], Draft] = _setter("schedule_cron")
with_time_zone: Callable[[Draft, str], Draft] = _setter("time_zone")
with_concurrency: Callable[[Draft, int], Draft] = _setter("concurrency")
with_requests_per_second: Callable[[Draft, float | None], Draft] = _setter("requests_per_second")
with_memory_limit_mb: Callable[[Draft, int], Draft] = _setter("memory_limit_mb")
with_work_dir: Callable[[Draft, str | None], Draft] = _setter("work_dir")
with_pack_size_bytes: Callable[[Draft, int], Draft] = _setter("pack_size_bytes")
with_group_objects: Callable[[Draft, int], Draft] = _setter("group_objects")
with_canary_objects: Callable[[Draft, int], Draft] = _setter("canary_objects")
with_barrier_timeout_seconds: Callable[[Draft, float], Draft] = _setter("barrier_timeout_seconds")
with_deadline_seconds: Callable[[Draft, float | None], Draft] = _setter("deadline_seconds")


def _validated(
    values: Mapping[str, object], *, names: dict[str, str] | None = None, problems: Sequence[str] = ()
) -> S3GCConfig:
    """Judge `values` as a whole; None means the default, and no default can be None and something else."""
    given = {key: value for key, value in values.items() if value is not None}
    found = [
        *problems,
        *(f"{key}: there is no such setting; {_RETIRED[key]}" for key in given if key in _RETIRED),
    ]
    try:
        config = S3GCConfig.model_validate({key: given[key] for key in given if key not in _RETIRED})
    except ValidationError as error:
        raise configuration_problems([*list_problems(error, names=names), *found]) from None
    if found:
        raise configuration_problems(found)
    return config
