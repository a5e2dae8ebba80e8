"""From a command line to a policy: a file, S3GC_POLICY or variables first, then flags, then --set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from s3gc.builder import build_config
from s3gc.cli.options import Flags
from s3gc.config import S3GCConfig
from s3gc.exceptions import ConfigurationError, S3GCError
from s3gc.names import SETTINGS, parse_base_url, parse_setting, parse_tables, read_environment
from s3gc.policy import load_manifest, load_policy, policy_from_environment, to_config

__all__ = ["ANY_BUCKET", "bucket_policy", "cycle_policy", "until_the_jobs_end", "vault_policy"]

#: Stands for the bucket where only the vault is asked; no request is ever made with it.
ANY_BUCKET = "any-bucket"


def cycle_policy(flags: Flags, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Return the whole policy. Raises ConfigurationError that says what is missing and the ways to give it."""
    env = os.environ if environ is None else environ
    base: S3GCConfig | None
    base = load_policy(flags.policy, env) if flags.policy is not None else policy_from_environment(env)
    return _with_flags(base, flags, env)


def until_the_jobs_end(config: S3GCConfig, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """The policy with a deadline at `S3GC_STOP_AT`, the moment at which a Job's process must have ended.

    A Job's clock begins when it is made. This process may be the second try, and began later. Raises S3GCError when
    that moment has passed.
    """
    env = os.environ if environ is None else environ
    text = env.get("S3GC_STOP_AT", "")
    if not text:
        return config
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ConfigurationError(f"S3GC_STOP_AT is {text!r}, which is no time in ISO 8601") from None
    left = (moment - datetime.now(UTC)).total_seconds()
    if left <= 0:
        raise S3GCError(
            f"the Job's deadline is too near to begin: everything had to end at {text}. Give "
            "job.activeDeadlineSeconds more time, or see why the pod began so late"
        )
    return config.with_updates(deadline_seconds=min(left, config.deadline_seconds or left))


def bucket_policy(flags: Flags, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Return a policy for bucket and vault that asks no database: whoever restores at night needs no such
    secret."""
    env = os.environ if environ is None else environ
    config = _with_flags(_without_secrets(flags, env), flags, env)
    return config.with_updates(
        tables={}, database_url=None, sources=(), cdc_backend=None, cdc_connection_url=None
    )


def vault_policy(flags: Flags, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Return a policy good for opening the vault, without the databases' secrets; of ANY_BUCKET where none is named."""
    env = os.environ if environ is None else environ
    base = _without_secrets(flags, env)
    if base is not None or "bucket" in flags.values or read_environment(env)[0].get("bucket"):
        return _with_flags(base, flags, env)
    named = Flags(values={"bucket": ANY_BUCKET, **flags.values}, assignments=flags.assignments)
    return _with_flags(None, named, env)


def _without_secrets(flags: Flags, env: Mapping[str, str]) -> S3GCConfig | None:
    if flags.policy is not None:
        return to_config(load_manifest(flags.policy), None)
    return policy_from_environment(env, secrets=False)


def _with_flags(base: S3GCConfig | None, flags: Flags, env: Mapping[str, str]) -> S3GCConfig:
    changes, parts = _changes(flags)
    if base is not None:
        config = base.with_updates(**changes)
    else:
        values, _ = read_environment(env)
        if not ("bucket" in values or "bucket" in changes):
            raise ConfigurationError(
                "which bucket? Give -f POLICY.YAML, or --bucket NAME, or set S3GC_POLICY or S3GC_BUCKET"
            )
        config = build_config({**values, **changes})
    # One part of a group leaves its others as they are: a cap that was lowered must not come back by itself.
    whole = {name: {**getattr(config, name).model_dump(), **given} for name, given in parts.items()}
    return config.with_updates(**whole) if whole else config


def _changes(flags: Flags) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What the flags change: whole fields, and single parts of limits and deletion."""
    changes = dict(flags.values)
    parts: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    try:
        if "tables" in changes:
            changes["tables"] = parse_tables(changes["tables"])
    except ValueError as error:
        problems.append(f"--tables {error}")
    try:
        if "base_urls" in changes:
            changes["base_urls"] = tuple(parse_base_url(entry) for entry in changes["base_urls"])
    except ValueError as error:
        problems.append(f"--base-url {error}")
    settings = {setting.field: setting for setting in SETTINGS}
    for assignment in flags.assignments:
        name, equals, text = assignment.partition("=")
        head, _, part = name.strip().partition(".")
        setting = settings.get(head)
        if not equals or setting is None or (part and head not in ("limits", "deletion")):
            problems.append(f"--set {assignment!r} is not field=value of a setting in docs/policy.md")
            continue
        try:
            if part:
                parts.setdefault(head, {})[part] = text or None
            else:
                changes[head] = parse_setting(setting, text)
        except ValueError as error:
            problems.append(f"--set {name} {error}")
    if problems:
        raise ConfigurationError("; ".join(problems), details={"errors": problems})
    return changes, parts
