"""From a command line to a policy: which source wins, and what is said when none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3gc.cli.options import Flags
from s3gc.cli.settings import ANY_BUCKET, bucket_policy, cycle_policy, vault_policy
from s3gc.config import GCMode
from s3gc.exceptions import ConfigurationError

MANIFEST = """
apiVersion: s3gc.dev/v1
kind: BucketGC
metadata: {name: media}
spec:
  bucket: {name: shop-media, prefixes: [uploads/]}
  references:
  - name: shop
    database: {urlSecretRef: {name: db, key: url}}
    tables: [{table: users, columns: [{name: avatar_url}]}]
  limits: {maxDeletePercent: 7}
  vault: {persistentVolumeClaim: {claimName: vault}}
"""
SECRET = {"DATABASE_URL": "sqlite:///shop.db"}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(MANIFEST)
    return path


def flags(policy: Path | None = None, *assignments: str, **values: Any) -> Flags:
    return Flags(policy=policy, values=values, assignments=assignments)


def test_a_file_is_the_policy_and_flags_win(manifest: Path) -> None:
    config = cycle_policy(flags(manifest, vault_path="./v", retention_days=1.0), SECRET)
    assert (config.bucket, config.prefixes, config.vault_path) == ("shop-media", ("uploads/",), "./v")
    assert config.retention_days == 1
    assert config.unreferenced_days == 1
    assert config.limits.max_delete_percent == 7
    assert config.has_source


def test_the_environment_holds_a_policy_too() -> None:
    environ = {"S3GC_POLICY": json.dumps(yaml.safe_load(MANIFEST)), **SECRET}
    assert cycle_policy(flags(), environ).policy_name == "media"
    assert cycle_policy(flags(mode="execute"), environ).mode is GCMode.EXECUTE


def test_a_file_wins_over_the_environment_s_policy(manifest: Path) -> None:
    environ = {"S3GC_POLICY": "{ not even JSON", **SECRET}
    assert cycle_policy(flags(manifest), environ).bucket == "shop-media"


def test_flags_and_variables_alone_are_enough() -> None:
    environ = {"S3GC_BUCKET": "shop-media", "S3GC_VAULT_PATH": "/v", "S3GC_RETENTION_DAYS": "3", **SECRET}
    given = flags(
        tables=["users:avatar_url,cover", "posts:image"],
        base_urls=["https://cdn.example.com/=img/"],
        foreign_hosts=["www.gravatar.com"],
        retention_days=9.0,
    )
    config = cycle_policy(given, environ)
    assert config.tables == {"users": ("avatar_url", "cover"), "posts": ("image",)}
    assert (config.base_urls[0].url, config.base_urls[0].key_prefix) == ("https://cdn.example.com/", "img/")
    assert (config.vault_path, config.retention_days) == ("/v", 9)
    assert config.effective_sources[0].connection_url == SECRET["DATABASE_URL"]


def test_every_other_setting_can_be_set() -> None:
    config = cycle_policy(
        flags(
            None,
            "limits.max_delete_percent=",
            "limits.max_delete_objects=5",
            "deletion.condition=best_effort",
            "time_zone=Europe/Berlin",
            "prefixes=a/,b/",
            bucket="shop-media",
        ),
        {},
    )
    assert config.limits.max_delete_percent is None
    assert config.limits.max_delete_objects == 5
    assert config.deletion.condition == "best_effort"
    assert (config.time_zone, config.prefixes) == ("Europe/Berlin", ("a/", "b/"))


def test_setting_one_limit_keeps_the_file_s_others(manifest: Path) -> None:
    config = cycle_policy(flags(manifest, "limits.max_delete_objects=5"), SECRET)
    assert (config.limits.max_delete_percent, config.limits.max_delete_objects) == (7, 5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (flags(), "which bucket\\? Give -f POLICY.YAML, or --bucket NAME, or set S3GC_POLICY or S3GC_BUCKET"),
        (flags(bucket="shop-media", tables=["users"]), "--tables 'users' is not table:column"),
        (flags(None, "nonsense=1", bucket="shop-media"), "--set 'nonsense=1' is not field=value"),
        (flags(None, "limits", bucket="shop-media"), "--set 'limits' is not field=value"),
        (flags(None, "bucket.name=x", bucket="shop-media"), "--set 'bucket.name=x' is not field=value"),
        (flags(None, "limits=5", bucket="shop-media"), "--set limits takes JSON"),
        (flags(None, "mode=delete", bucket="shop-media"), "mode: Input should be"),
        (flags(Path("/nowhere/policy.yaml")), "/nowhere/policy.yaml cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_on(given: Flags, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        cycle_policy(given, {})


def test_the_vault_can_be_asked_without_a_bucket_or_a_secret(manifest: Path) -> None:
    config = vault_policy(flags(vault_path="./v"), {})
    assert (config.vault_path, config.bucket) == ("./v", ANY_BUCKET)
    config = vault_policy(flags(manifest, vault_path="./v"), {})
    assert (config.bucket, config.vault_path) == ("shop-media", "./v")
    assert vault_policy(flags(), {"S3GC_BUCKET": "shop-media"}).bucket == "shop-media"


def test_a_restore_needs_no_database_s_secret(manifest: Path) -> None:
    config = bucket_policy(flags(manifest), {})
    assert (config.bucket, config.prefixes) == ("shop-media", ("uploads/",))
    assert not config.has_source
    with pytest.raises(ConfigurationError, match="S3GC_SOURCE_0_URL"):
        cycle_policy(flags(manifest), {})


def test_every_problem_of_file_flags_and_set_comes_at_once(manifest: Path) -> None:
    manifest.write_text(MANIFEST.replace("uploads/]", "/uploads/]") + "  mode: Delete\n")
    given = flags(
        manifest,
        "limits.max_delete_pct=3",
        "time_zone=Mars/Olympus",
        "retension_days=3",
        retention_days=-1.0,
        tables=["users"],
        base_urls=["=x"],
    )
    with pytest.raises(ConfigurationError) as caught:
        cycle_policy(given, {})
    text = str(caught.value)
    for said in (
        "spec.mode: Input should be",
        "spec.bucket.prefixes[0]: prefix '/uploads/' starts with '/'",
        "set S3GC_SOURCE_0_URL",
        "--tables 'users' is not table:column",
        "--base-url '=x' has no URL",
        "--set limits.max_delete_pct: there is no such setting; did you mean 'max_delete_percent'?",
        "--set time_zone: 'Mars/Olympus' is not a time zone",
        "--set 'retension_days=3' is not field=value of a setting in docs/policy.md; did you mean 'retention_days'?",
        "--retention-days: Input should be greater than or equal to 0",
    ):
        assert said in text, text
    assert text.count("\n") == 9


def test_every_problem_of_variables_and_flags_comes_at_once() -> None:
    environ = {"S3GC_TABLES": "users", "S3GC_MODE": "delete", "S3GC_LIMITS": "5"}
    with pytest.raises(ConfigurationError) as caught:
        cycle_policy(flags(vault_path="ftp://x"), environ)
    text = str(caught.value)
    for said in (
        "S3GC_TABLES 'users' is not",
        "S3GC_LIMITS takes JSON",
        "which bucket?",
        "S3GC_MODE: ",
        "--vault: ",
    ):
        assert said in text, text


def test_the_vault_s_own_variables_count_where_no_bucket_is_named() -> None:
    config = vault_policy(flags(), {"S3GC_VAULT_PATH": "/vault", "S3GC_VAULT_REGION": "eu-west-1"})
    assert (config.bucket, config.vault_path, config.vault_region) == (ANY_BUCKET, "/vault", "eu-west-1")
