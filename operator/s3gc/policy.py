"""A policy as a file: a `BucketGC` manifest, the same YAML that `kubectl apply -f` takes, as an
`S3GCConfig` and back.

What a manifest keeps in Secrets comes from the environment here, under the names that the operator gives to
the Job's pod: `S3GC_SOURCE_<n>_URL` and `S3GC_SOURCE_<n>_CDC_URL` for `references[n]` (`DATABASE_URL` where
there is only one), `S3GC_BUCKET_AWS_…` and `S3GC_VAULT_AWS_…`, which the store reads itself. So one file
works on a laptop, in CI and in a cluster, and holds no secret. Every problem is reported with its path in
the manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from s3gc.config import MAX_LAG_BYTES, CDCConfig, S3GCConfig, configuration_problems, list_problems
from s3gc.exceptions import ConfigurationError
from s3gc.manifest import API_VERSION, BucketGC, BucketGCSpec, ReferenceSpec, VaultSpec, camel
from s3gc.names import SETTINGS
from s3gc.partial import without_problems
from s3gc.yaml_text import read_one_document

__all__ = [
    "DEADLINE_MARGIN_SECONDS",
    "PVC_VAULT",
    "as_cron",
    "load_manifest",
    "load_policy",
    "manifest_path",
    "parse_manifest",
    "policy_from_environment",
    "to_config",
    "to_manifest",
]

#: Where the Job's pod mounts the claim of `vault.persistentVolumeClaim`.
PVC_VAULT = "/vault"
#: The engine stops by itself this long before Kubernetes would delete the pod, its result and all.
DEADLINE_MARGIN_SECONDS = 300
_MAX_BYTES = 3 * 1024 * 1024  # the API server takes no larger object


def load_policy(path_or_text: str | Path, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Read a `BucketGC` manifest (a path, or YAML or JSON text) and return the policy.

    `environ` (the process's own by default) has the values of the SecretRefs. Raises ConfigurationError
    that lists every problem with its path, such as ``spec.references[0].tables[1].columns``.
    """
    env = os.environ if environ is None else environ
    manifest = parse_manifest(*_document(path_or_text), env)
    try:
        return to_config(manifest, env)
    except ConfigurationError as error:
        raise _about(f"policy {manifest.metadata.name}", error) from None


def policy_from_environment(environ: Mapping[str, str], *, secrets: bool = True) -> S3GCConfig | None:
    """Return the policy in `S3GC_POLICY` (JSON: a manifest, or only its spec), None without one.

    Without `secrets` the variables that stand in for SecretRefs are neither read nor missed. Raises
    ConfigurationError with every problem.
    """
    text = environ.get("S3GC_POLICY", "")
    if not text.strip():
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"S3GC_POLICY is not JSON: {error}") from None
    read = environ if secrets else None
    if isinstance(value, dict) and "kind" not in value and "bucket" in value:
        return to_config(_parsed(BucketGCSpec, value, "S3GC_POLICY", read, ("spec",)), read)
    return to_config(parse_manifest(value, "S3GC_POLICY", read), read)


def load_manifest(path_or_text: str | Path) -> BucketGC:
    """Read and check a manifest's structure, without its secrets. Raises ConfigurationError with every
    problem."""
    return parse_manifest(*_document(path_or_text))


def _document(path_or_text: str | Path) -> tuple[object, str]:
    """The decoded document, and what to call it in messages."""
    if isinstance(path_or_text, str) and ("\n" in path_or_text or path_or_text.lstrip().startswith("{")):
        return read_one_document(path_or_text, "the policy"), "the policy"
    path = Path(path_or_text)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(
                f"{path} is larger than {_MAX_BYTES:,} bytes; that is no BucketGC manifest"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"the policy {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the policy {path} is not UTF-8 text: {error.reason}") from None
    return read_one_document(text, str(path)), str(path)


def parse_manifest(
    value: object, name: str = "the policy", environ: Mapping[str, str] | None = None
) -> BucketGC:
    """Check a decoded manifest; `name` says in messages where it came from. Raises ConfigurationError with every
    problem, where the structure is broken also those of the meaning (with `environ`, of what stands for secrets)."""
    if not isinstance(value, Mapping):
        found = "empty" if value is None else "a list" if isinstance(value, list) else "plain text"
        raise ConfigurationError(f"{name} is not a BucketGC manifest: it is {found}")
    kind = value.get("kind")
    if kind != "BucketGC" or value.get("apiVersion") != API_VERSION:
        found = f"{value.get('apiVersion') or 'no apiVersion'}, {kind or 'no kind'}"
        raise ConfigurationError(
            f"{name} is not a BucketGC manifest: it says {found}; begin it with\n"
            f"  apiVersion: {API_VERSION}\n  kind: BucketGC"
        )
    return _parsed(BucketGC, value, name, environ)


def to_config(manifest: BucketGC | BucketGCSpec, environ: Mapping[str, str] | None) -> S3GCConfig:
    """Return the policy that a manifest means. Raises ConfigurationError with every problem and its path.

    With `environ` None nothing is read in place of SecretRefs: the way to judge a manifest without its
    secrets. The policy's name is ``namespace.name``, so that two namespaces can share a vault.
    """
    spec = manifest.spec if isinstance(manifest, BucketGC) else manifest
    problems: list[str] = []
    values: dict[str, Any] = {
        "bucket": spec.bucket.name,
        **_given(spec.bucket, "region", "endpoint_url", "path_style", "prefixes", "exclude_prefixes"),
        "base_urls": [entry.model_dump(by_alias=True) for entry in spec.bucket.base_urls],
        "foreign_hosts": spec.bucket.foreign_hosts,
        "sources": [
            _source(reference, index, len(spec.references), environ, problems)
            for index, reference in enumerate(spec.references)
        ],
        **_given(spec, "mode", "retention_days", "unreferenced_days", "approval", "versions"),
        **_given(spec, "restore_hold_days", "time_zone"),
        "limits": spec.limits.model_dump(),
        "deletion": spec.deletion.model_dump(),
        "schedule_cron": spec.schedule,
        **_vault(spec.vault),
        **spec.engine.model_dump(),
    }
    if isinstance(manifest, BucketGC):
        values["name"] = ".".join(filter(None, (manifest.metadata.namespace, manifest.metadata.name)))
    if environ is not None and environ.get("S3GC_WORK_DIR"):
        values["work_dir"] = environ["S3GC_WORK_DIR"]
    if spec.job.active_deadline_seconds is not None:
        values["deadline_seconds"] = spec.job.active_deadline_seconds - DEADLINE_MARGIN_SECONDS
    try:
        config = S3GCConfig.model_validate(values)
    except ValidationError as error:
        raise configuration_problems([*list_problems(error, where=_path_of_setting), *problems]) from None
    if problems:
        raise configuration_problems(problems)
    return config


def to_manifest(config: S3GCConfig, *, namespace: str | None = None) -> dict[str, Any]:
    """Return the manifest that means `config`, as plain data without defaults.

    What a manifest cannot hold is named by convention and must be made beside it: each database's URL in a
    Secret ``<policy>-<source>`` (keys ``url`` and ``direct-url``), a folder vault in the claim
    ``<policy>-vault``.
    """
    policy = config.policy_name
    if namespace is not None:
        policy = policy.removeprefix(f"{namespace}.")
    spec = {
        "bucket": {
            "name": config.bucket,
            **_camelled(config, "region", "endpoint_url", "path_style", "prefixes", "exclude_prefixes"),
            "baseURLs": [{"url": entry.url, "keyPrefix": entry.key_prefix} for entry in config.base_urls],
            "foreignHosts": config.foreign_hosts,
        },
        "references": [
            {
                "name": source.name,
                "database": {"urlSecretRef": {"name": f"{policy}-{source.name}", "key": "url"}},
                **_cdc_reference(policy, source.name, source.cdc),
                **source.model_dump(
                    by_alias=True, mode="json", include={"tables", "queries", "derivatives", "ignore_columns"}
                ),
            }
            for source in config.effective_sources
        ],
        **{name: _pascal(getattr(config, name)) for name in ("mode", "approval", "versions")},
        "deletion": {"condition": _pascal(config.deletion.condition)},
        "limits": {
            # Kubernetes prunes null: 100 percent is how a manifest says that there is no cap
            camel(name): 100 if value is None and name == "max_delete_percent" else value
            for name, value in config.limits.model_dump().items()
        },
        **_camelled(config, "retention_days", "unreferenced_days", "restore_hold_days", "time_zone"),
        "schedule": as_cron(config.schedule_cron) if config.schedule_cron is not None else None,
        "vault": _vault_manifest(config, policy),
        "engine": _camelled(
            config,
            *("concurrency", "requests_per_second", "memory_limit_mb", "pack_size_bytes", "group_objects"),
            *("canary_objects", "barrier_timeout_seconds"),
        ),
    }
    if config.deadline_seconds is not None:
        deadline = max(600, int(config.deadline_seconds) + DEADLINE_MARGIN_SECONDS)
        spec["job"] = {"activeDeadlineSeconds": deadline}
    metadata = {"name": policy, **({"namespace": namespace} if namespace else {})}
    document = {"apiVersion": API_VERSION, "kind": "BucketGC", "metadata": metadata, "spec": spec}
    plain = _parsed(BucketGC, document, f"policy {policy}").model_dump(
        by_alias=True, mode="json", exclude_defaults=True
    )
    plain["spec"].setdefault("mode", "DryRun")  # what may be done is never left to be guessed
    return plain


def _source(
    reference: ReferenceSpec,
    index: int,
    count: int,
    environ: Mapping[str, str] | None,
    problems: list[str],
) -> dict[str, Any]:
    at = f"spec.references[{index}]"
    values = reference.model_dump(by_alias=True, exclude={"database", "cdc"})
    if environ is not None:
        variable = f"S3GC_SOURCE_{index}_URL"
        url = environ.get(variable) or (environ.get("DATABASE_URL") if count == 1 else None)
        if not url:
            also = " (or DATABASE_URL)" if count == 1 else ""
            problems.append(
                f"{at}.database.urlSecretRef: outside of a cluster, set {variable}{also} to its URL"
            )
        values["url"] = url or None
    if reference.cdc is not None:
        values["cdc"] = {"backend": reference.cdc.backend, "maxLagBytes": reference.cdc.max_lag_bytes}
        if environ is not None and reference.cdc.url_secret_ref is not None:
            variable = f"S3GC_SOURCE_{index}_CDC_URL"
            values["cdc"]["url"] = environ.get(variable) or None
            if not values["cdc"]["url"]:
                problems.append(
                    f"{at}.cdc.urlSecretRef: outside of a cluster, set {variable} to the direct address"
                )
    return values


def _vault(vault: VaultSpec) -> dict[str, Any]:
    values: dict[str, Any] = {
        "vault_path": PVC_VAULT,
        "vault_retention_days": vault.retention_days,
        "compression_level": vault.compression_level,
    }
    if vault.s3 is not None:
        values["vault_path"] = f"s3://{vault.s3.bucket}/{vault.s3.prefix}".rstrip("/")
        own = _given(vault.s3, "endpoint_url", "region", "path_style", "storage_class", "kms_key_id")
        values.update({f"vault_{name}": value for name, value in own.items()})
    return values


def _vault_manifest(config: S3GCConfig, policy: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "retentionDays": config.vault_retention_days,
        "compressionLevel": config.compression_level,
    }
    if config.vault_path.startswith("s3://"):
        bucket, _, prefix = config.vault_path.removeprefix("s3://").partition("/")
        values["s3"] = {"bucket": bucket, "prefix": prefix}
        for name in ("endpoint_url", "region", "path_style", "storage_class", "kms_key_id"):
            values["s3"][camel(name)] = getattr(config, f"vault_{name}")
    else:
        values["persistentVolumeClaim"] = {"claimName": f"{policy}-vault"}
    return values


def _cdc_reference(policy: str, source: str, cdc: CDCConfig | None) -> dict[str, Any]:
    if cdc is None:
        return {}
    secret = {"name": f"{policy}-{source}", "key": "direct-url"}
    limit = {"maxLagBytes": cdc.max_lag_bytes} if cdc.max_lag_bytes != MAX_LAG_BYTES else {}
    return {"cdc": {"backend": str(cdc.backend), "urlSecretRef": secret, **limit}}


def _given(part: BaseModel, *names: str) -> dict[str, Any]:
    return {name: getattr(part, name) for name in names}


def _camelled(part: BaseModel, *names: str) -> dict[str, Any]:
    return {camel(name): getattr(part, name) for name in names}


def _pascal(value: str) -> str:
    return "".join(part.capitalize() for part in str(value).split("_"))


def as_cron(schedule: str) -> str:
    """`HH:MM` as five fields, which is all that Kubernetes' users expect to read; the meaning is the same."""
    text = schedule.strip()
    if ":" not in text:
        return text
    hour, _, minute = text.partition(":")
    return f"{int(minute)} {int(hour)} * * *"


# --- structure, and the paths in messages

_M = TypeVar("_M", bound=BaseModel)

_PATHS: Mapping[str, str] = {
    setting.field: f"spec.{setting.path}" for setting in SETTINGS if setting.path and setting.field != "name"
}


def _parsed(
    model: type[_M],
    value: object,
    name: str,
    environ: Mapping[str, str] | None = None,
    root: Sequence[str] = (),
) -> _M:
    """Check structure and bounds; every problem with its path below `root`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = list_problems(
            error, where=lambda loc: manifest_path([*root, *loc]), known=_spellings(BucketGCSpec)
        )
        problems += _problems_beyond(model, value, error, environ, root)
        raise _about(name, configuration_problems(list(dict.fromkeys(problems)))) from None


def _problems_beyond(
    model: type[BaseModel],
    value: object,
    error: ValidationError,
    environ: Mapping[str, str] | None,
    root: Sequence[str],
) -> list[str]:
    """What is wrong with the meaning of what is left when the broken places are taken out."""
    rest = without_problems(value, error, root)
    try:
        manifest = None if rest is None else model.model_validate(rest)
        if isinstance(manifest, (BucketGC, BucketGCSpec)):
            to_config(manifest, environ)
    except ConfigurationError as further:
        errors = further.details["errors"]
        return list(errors) if isinstance(errors, list) else []
    except ValidationError:
        pass  # too little is left; these problems are heard of when the others are mended
    return []


def _about(name: str, error: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(f"{name}: {error.message}", details=error.details)


def _spellings(model: type[BaseModel]) -> set[str]:
    """Every name that may stand somewhere in a manifest, for the nearest one to a misspelled one."""
    names: set[str] = set()
    for field in model.model_fields.values():
        names.add(str(field.alias))
        pending = [field.annotation]
        while pending:
            kind = pending.pop()
            pending.extend(get_args(kind))
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                names |= _spellings(kind)
    return names


def manifest_path(loc: Sequence[str | int]) -> str:
    """`("spec", "references", 0, "tables")` -> ``spec.references[0].tables``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _path_of_setting(loc: Sequence[str | int]) -> str:
    """The place in the manifest of what `S3GCConfig` calls `loc`."""
    if not loc:
        return "spec"
    first, *rest = loc
    if first == "sources" and rest[1:] == ["url"]:
        return f"spec.references[{rest[0]}].database.urlSecretRef ($S3GC_SOURCE_{rest[0]}_URL)"
    if first == "sources" and rest[1:] == ["cdc", "url"]:
        return f"spec.references[{rest[0]}].cdc.urlSecretRef ($S3GC_SOURCE_{rest[0]}_CDC_URL)"
    head = "metadata.name" if first == "name" else _PATHS.get(str(first), str(first))
    return manifest_path([head, *rest])
