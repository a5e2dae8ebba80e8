"""From a command line to a policy: a file, S3GC_POLICY or variables first, then flags, then --set."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from s3gc.cli.options import Flags
from s3gc.config import S3GCConfig, configuration_problems, list_problems
from s3gc.exceptions import ConfigurationError, S3GCError
from s3gc.names import SETTINGS, parse_base_url, parse_setting, parse_tables, read_environment
from s3gc.policy import load_manifest, load_policy, policy_from_environment, to_config

__all__ = ["ANY_BUCKET", "bucket_policy", "cycle_policy", "until_the_jobs_end", "vault_policy"]

#: Stands for the bucket where only the vault is asked; no request is ever made with it.
ANY_BUCKET = "any-bucket"
_WHICH_BUCKET = "which bucket? Give -f POLICY.YAML, or --bucket NAME, or set S3GC_POLICY or S3GC_BUCKET"


def cycle_policy(flags: Flags, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Return the whole policy. Raises ConfigurationError that says all that is wrong or missing, and the ways to give
    it."""
    env = os.environ if environ is None else environ

    def load() -> S3GCConfig | None:
        if flags.policy is not None:
            return load_policy(flags.policy, env)
        return policy_from_environment(env)

    return _with_flags(load, flags, env)


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
    config = _with_flags(lambda: _without_secrets(flags, env), flags, env)
    return config.with_updates(
        tables={}, database_url=None, sources=(), cdc_backend=None, cdc_connection_url=None
    )


def vault_policy(flags: Flags, environ: Mapping[str, str] | None = None) -> S3GCConfig:
    """Return a policy good for opening the vault, without the databases' secrets; of ANY_BUCKET where none is named."""
    env = os.environ if environ is None else environ
    has_policy = flags.policy is not None or bool(env.get("S3GC_POLICY", "").strip())
    if has_policy or "bucket" in flags.values or read_environment(env, [])[0].get("bucket"):
        return _with_flags(lambda: _without_secrets(flags, env), flags, env)
    named = Flags(values={"bucket": ANY_BUCKET, **flags.values}, assignments=flags.assignments)
    return _with_flags(lambda: None, named, env)


def _without_secrets(flags: Flags, env: Mapping[str, str]) -> S3GCConfig | None:
    if flags.policy is not None:
        return to_config(load_manifest(flags.policy), None)
    return policy_from_environment(env, secrets=False)


def _with_flags(load: Callable[[], S3GCConfig | None], flags: Flags, env: Mapping[str, str]) -> S3GCConfig:
    """The policy that `load` gives, or the environment's, with what the flags change; every problem at once."""
    problems: list[str] = []
    failed: ConfigurationError | None = None
    base: S3GCConfig | None = None
    try:
        base = load()
    except ConfigurationError as error:
        failed = error
    values: dict[str, Any] = {}
    names = {name: flags.spelled(name) for name in flags.values}
    if base is not None:
        values = {name: getattr(base, name) for name in base.model_fields_set}
    elif failed is None:
        values, origins = read_environment(env, problems)
        names = {**origins, **names}
    changes, parts = _changes(flags, problems, names)
    values.update(changes)
    if "bucket" not in values:
        if failed is None:
            problems.append(_WHICH_BUCKET)
        values["bucket"] = ANY_BUCKET  # judge the rest as well
    for name, given in parts.items():
        # One part of a group leaves its others as they are: a cap that was lowered must not come back by itself.
        known = values.get(name, {})
        values[name] = {**(known if isinstance(known, dict) else known.model_dump()), **given}
    config = None
    try:
        config = S3GCConfig.model_validate(values)
    except ValidationError as error:
        problems += list_problems(error, names=names)
    if failed is not None and not problems:
        raise failed
    if failed is not None:
        found = failed.details.get("errors")
        raise configuration_problems([*(found if isinstance(found, list) else [failed.message]), *problems])
    if problems == [_WHICH_BUCKET]:
        raise ConfigurationError(_WHICH_BUCKET)
    if problems or config is None:
        raise configuration_problems(problems)
    return config


def _changes(
    flags: Flags, problems: list[str], names: dict[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What the flags change: whole fields, and single parts of limits and deletion. What cannot be read is added to
    `problems`; `names` learns how each field was spelled."""
    changes = dict(flags.values)
    parts: dict[str, dict[str, Any]] = {}
    for name, read in (
        ("tables", parse_tables),
        ("base_urls", lambda entries: tuple(parse_base_url(entry) for entry in entries)),
    ):
        try:
            if name in changes:
                changes[name] = read(changes[name])
        except ValueError as error:
            problems.append(f"{flags.spelled(name)} {error}")
            del changes[name]
    settings = {setting.field: setting for setting in SETTINGS}
    for assignment in flags.assignments:
        name, equals, text = assignment.partition("=")
        head, _, part = name.strip().partition(".")
        setting = settings.get(head)
        if not equals or setting is None or (part and head not in ("limits", "deletion")):
            near = difflib.get_close_matches(head, settings, 1)
            hint = f"; did you mean {near[0]!r}?" if near and near[0] != head else ""
            problems.append(f"--set {assignment!r} is not field=value of a setting in docs/policy.md{hint}")
            continue
        try:
            if part:
                parts.setdefault(head, {})[part] = text or None
            else:
                changes[head] = parse_setting(setting, text)
            names[head] = f"--set {head}"
        except ValueError as error:
            problems.append(f"--set {name} {error}")
    return changes, parts
