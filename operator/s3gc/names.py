"""The one table of names: keyword of `create_config` = field of `S3GCConfig` = path in a manifest = variable.

Everything that must agree on a setting's name reads it here: `builder` (the environment), `policy` (a
manifest's errors), the command line (`--set`), and the table of docs/policy.md, which a test compares. What
stands here is only how things are called and how a variable's text is read; bounds and defaults are those
of `config.S3GCConfig`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = [
    "SETTINGS",
    "Setting",
    "markdown_table",
    "parse_base_url",
    "parse_setting",
    "parse_tables",
    "read_environment",
]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting under its four names.

    `field` is both the keyword and the field. `path` is the place in a `BucketGC` manifest (below `spec`,
    except for metadata), "" where a manifest has none. `variables` are read in this order by
    `create_config_from_env`; `in_manifest` is the variable that stands in for a SecretRef of the manifest.
    `kind` says how text is read.
    """

    field: str
    path: str
    what: str
    kind: str = "text"  # text | list | urls | tables | json | condition
    also: tuple[str, ...] = ()
    in_manifest: str = ""

    @property
    def variable(self) -> str:
        return f"S3GC_{self.field.upper()}"

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable, *self.also)


#: In the order of `S3GCConfig`'s fields; a test holds the two together.
SETTINGS: tuple[Setting, ...] = (
    Setting("bucket", "bucket.name", "the bucket to clean", also=("S3_BUCKET",)),
    Setting("name", "metadata.name", "of the policy; chooses its scope in a shared vault"),
    Setting("region", "bucket.region", "AWS region of the bucket", also=("AWS_REGION", "AWS_DEFAULT_REGION")),
    Setting("endpoint_url", "bucket.endpointURL", "another store than AWS; `AWS_ENDPOINT_URL(_S3)` too"),
    Setting("path_style", "bucket.pathStyle", "`https://host/bucket/key`; default: for every store but AWS"),
    Setting("prefixes", "bucket.prefixes", "what of the bucket is in scope; default: all of it", "list"),
    Setting("exclude_prefixes", "bucket.excludePrefixes", "what is never touched", "list"),
    Setting("base_urls", "bucket.baseURLs", "where the bucket is served: a CDN, a custom domain", "urls"),
    Setting("foreign_hosts", "bucket.foreignHosts", "hosts whose URLs never mean this bucket", "list"),
    Setting("tables", "references[].tables", "tables and their columns that reference objects", "tables"),
    Setting(
        "database_url",
        "references[].database.urlSecretRef",
        "the database of `tables`",
        also=("DATABASE_URL",),
        in_manifest="S3GC_SOURCE_<n>_URL",
    ),
    Setting("sources", "references", "several databases, queries, templates, derivatives", "json"),
    Setting("cdc_backend", "references[].cdc.backend", "change capture: `postgres` or `mysql`"),
    Setting(
        "cdc_connection_url",
        "references[].cdc.urlSecretRef",
        "the database's direct address, past any pooler",
        in_manifest="S3GC_SOURCE_<n>_CDC_URL",
    ),
    Setting("mode", "mode", "`dry_run`, `audit_only` or `execute`; in a manifest `DryRun` and so on"),
    Setting("retention_days", "retentionDays", "an object younger than this is never a candidate"),
    Setting("unreferenced_days", "unreferencedDays", "how long an object must have been unreferenced"),
    Setting("approval", "approval", "`automatic`, or `manual`: every plan waits for a person"),
    Setting("limits", "limits", "the guards' numbers", "json"),
    Setting(
        "versions", "versions", "`marker`, or `purge`: a later cycle frees what markers hide (safety.md)"
    ),
    Setting("deletion", "deletion", "`condition`: `required`, or `best_effort`", "condition"),
    Setting("restore_hold_days", "restoreHoldDays", "how long a restored key counts as referenced"),
    Setting("vault_path", "vault.s3 or vault.persistentVolumeClaim", "a folder, or `s3://bucket/prefix`"),
    Setting("vault_endpoint_url", "vault.s3.endpointURL", "the vault's own store"),
    Setting("vault_region", "vault.s3.region", "of the vault's bucket"),
    Setting("vault_path_style", "vault.s3.pathStyle", "of the vault's bucket"),
    Setting("vault_storage_class", "vault.s3.storageClass", "of what is written to the vault"),
    Setting("vault_kms_key_id", "vault.s3.kmsKeyID", "encrypt the vault with this key"),
    Setting("vault_retention_days", "vault.retentionDays", "how long a deleted object can be brought back"),
    Setting("compression_level", "vault.compressionLevel", "zstd, 1 to 19"),
    Setting("schedule_cron", "schedule", "`HH:MM` (daily) or five cron fields"),
    Setting("time_zone", "timeZone", "of the schedule"),
    Setting("concurrency", "engine.concurrency", "requests in flight"),
    Setting("requests_per_second", "engine.requestsPerSecond", "a budget; default: none but the store's own"),
    Setting("memory_limit_mb", "engine.memoryLimitMB", "of the join; the process needs about 600 MB more"),
    Setting("work_dir", "", "where a cycle keeps its working files"),
    Setting("pack_size_bytes", "engine.packSizeBytes", "of one pack in the vault"),
    Setting("group_objects", "engine.groupObjects", "deleted between two verifications, to begin with"),
    Setting("canary_objects", "engine.canaryObjects", "in the first group"),
    Setting("barrier_timeout_seconds", "engine.barrierTimeoutSeconds", "how long to wait for open writers"),
    Setting("deadline_seconds", "job.activeDeadlineSeconds (less 300)", "when a cycle stops by itself"),
)


def parse_tables(entries: Iterable[str]) -> dict[str, list[str]]:
    """Read ``users:avatar_url,cover`` entries; the same table twice adds its columns. ValueError says what
    is wrong."""
    tables: dict[str, list[str]] = {}
    for entry in entries:
        table, colon, columns = entry.strip().rpartition(":")
        names = [name.strip() for name in columns.split(",") if name.strip()]
        if not colon or not table.strip() or not names:
            raise ValueError(f"{entry!r} is not table:column; write users:avatar_url,cover")
        known = tables.setdefault(table.strip(), [])
        known.extend(name for name in names if name not in known)
    return tables


def parse_base_url(entry: str) -> dict[str, str]:
    """Read ``URL=KEYPREFIX``, or a URL alone; the last ``=`` divides them."""
    url, equals, prefix = entry.rpartition("=")
    if not equals:
        url, prefix = entry, ""
    if not url.strip():
        raise ValueError(f"{entry!r} has no URL; write https://cdn.example.com/=uploads/")
    return {"url": url.strip(), "keyPrefix": prefix.strip()}


def parse_setting(setting: Setting, text: str) -> object:
    """Turn a variable's (or `--set`'s) text into what `S3GCConfig` takes. ValueError says how to write it."""
    stripped = text.strip()
    if setting.kind == "text":
        return text
    if stripped.startswith(("[", "{")):
        try:
            value: object = json.loads(stripped)
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON ({error})") from None
        return value
    if setting.kind == "list":
        return tuple(part.strip() for part in stripped.split(",") if part.strip())
    if setting.kind == "urls":
        return tuple(parse_base_url(part) for part in stripped.split(",") if part.strip())
    if setting.kind == "tables":
        return parse_tables(part for part in stripped.split(";") if part.strip())
    if setting.kind == "condition":
        return {"condition": stripped}
    raise ValueError("takes JSON, beginning with { or [")


def read_environment(
    environ: Mapping[str, str], problems: list[str]
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the settings that `environ` has, and for each the variable it came from.

    An empty variable counts as absent. One that cannot be read is in the second and not in the first, and a
    sentence about it is added to `problems`.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        variable = next((name for name in setting.variables if environ.get(name, "").strip()), None)
        if variable is None:
            continue
        origins[setting.field] = variable
        try:
            values[setting.field] = parse_setting(setting, environ[variable])
        except ValueError as error:
            problems.append(f"{variable} {error}")
    return values, origins


def markdown_table() -> str:
    """The table of docs/policy.md."""
    rows = ["| keyword and field | in the manifest | environment | what it is |", "|---|---|---|---|"]
    for setting in SETTINGS:
        if setting.path.startswith(("metadata", "job.")) or not setting.path:
            path = f"`{setting.path}`" if setting.path.startswith("metadata") else ""
            if setting.path.startswith("job."):
                path = "`spec.job.activeDeadlineSeconds`, less 300"
        else:
            path = " or ".join(f"`spec.{part}`" for part in setting.path.split(" or "))
        variables = ", ".join(f"`{name}`" for name in setting.variables)
        if setting.in_manifest:
            variables += f"; with a manifest `{setting.in_manifest}`"
        rows.append(f"| `{setting.field}` | {path or 'none'} | {variables} | {setting.what} |")
    return "\n".join(rows) + "\n"
