"""`create_config`, the steps and the environment: one policy, three ways, every problem at once."""

from __future__ import annotations

import inspect

import pytest

from s3gc import builder
from s3gc.builder import (
    Draft,
    Settings,
    build_config,
    build_from_steps,
    create_config,
    create_config_from_env,
    create_empty_config,
    pipe,
    scan_table,
    with_bucket,
)
from s3gc.config import CDCBackend, GCMode, S3GCConfig
from s3gc.exceptions import ConfigurationError

#: A value of each field that differs from its default, as a person would write it.
EXAMPLES: dict[str, object] = {
    "bucket": "other-bucket",
    "name": "media",
    "region": "eu-central-1",
    "endpoint_url": "http://127.0.0.1:9000",
    "path_style": True,
    "prefixes": ["uploads/"],
    "exclude_prefixes": ["uploads/legal/"],
    "base_urls": [{"url": "https://cdn.example.com/", "keyPrefix": "img/"}],
    "foreign_hosts": ["www.gravatar.com"],
    "tables": {"users": ["avatar_url"]},
    "database_url": "postgresql://app:secret@db/shop",
    "sources": [{"name": "shop", "url": "sqlite:///shop.db", "tables": [{"table": "t", "columns": ["c"]}]}],
    "cdc_backend": "postgres",
    "cdc_connection_url": "postgresql://app:secret@db/shop",
    "mode": "audit_only",
    "retention_days": 30,
    "unreferenced_days": 2,
    "approval": "manual",
    "limits": {"max_delete_percent": 1},
    "versions": "purge",
    "deletion": {"condition": "best_effort"},
    "restore_hold_days": 1,
    "vault_path": "s3://vault-bucket/media",
    "vault_endpoint_url": "http://127.0.0.1:9001",
    "vault_region": "eu-west-1",
    "vault_path_style": True,
    "vault_storage_class": "STANDARD_IA",
    "vault_kms_key_id": "alias/vault",
    "vault_retention_days": 10,
    "compression_level": 5,
    "schedule_cron": "02:30",
    "time_zone": "Europe/Berlin",
    "concurrency": 4,
    "requests_per_second": 50,
    "memory_limit_mb": 128,
    "work_dir": "/tmp/work",
    "pack_size_bytes": 1024 * 1024,
    "group_objects": 10,
    "canary_objects": 2,
    "barrier_timeout_seconds": 5,
    "deadline_seconds": 60,
}
COMPANIONS = {"cdc_backend": {"cdc_connection_url": "postgresql://app:secret@db/shop"}}


def test_the_table_of_examples_has_every_field() -> None:
    assert set(EXAMPLES) == set(S3GCConfig.model_fields)


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_field_is_a_keyword_and_a_step(field: str) -> None:
    values = {"bucket": "my-bucket", **COMPANIONS.get(field, {}), field: EXAMPLES[field]}
    expected = S3GCConfig.model_validate(values)
    assert getattr(expected, field) != S3GCConfig(bucket="my-bucket").model_copy().__dict__[field]

    assert create_config(**values) == expected  # type: ignore[arg-type]

    draft = create_empty_config()
    for name, value in values.items():
        draft = getattr(builder, f"with_{name}")(draft, value)
    assert build_config(draft) == expected
    assert build_config(values) == expected


def test_the_signature_has_every_field_once() -> None:
    named = {name for name in inspect.signature(create_config).parameters if name != "settings"}
    assert named | set(Settings.__annotations__) == set(S3GCConfig.model_fields)
    assert not named & set(Settings.__annotations__)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("region", "us-east-1"),
        ("mode", "dry_run"),
        ("retention_days", 7),
        ("vault_path", "./s3gc_vault"),
        ("schedule_cron", None),
    ],
)
def test_the_signature_shows_the_documented_defaults(name: str, default: object) -> None:
    assert inspect.signature(create_config).parameters[name].default == default
    config = create_config("my-bucket")
    assert getattr(config, name) == default


def test_none_means_the_default() -> None:
    nothing = {name: None for name in S3GCConfig.model_fields if name != "bucket"}
    assert create_config("my-bucket", **nothing) == create_config("my-bucket")  # type: ignore[arg-type]


def test_every_problem_is_reported_at_once_and_an_unknown_keyword_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_config(
            bucket="Not_A_Bucket",
            mode="delete_everything",
            tables={"users": "avatar_url"},  # type: ignore[dict-item]
            retension_days=3,  # type: ignore[call-arg]
            backup_before_delete=False,
        )
    problems = caught.value.details["errors"]
    assert isinstance(problems, list)
    text = "\n".join(problems)
    assert len(problems) == 5
    assert "retension_days: there is no such setting; did you mean 'retention_days'?" in text
    assert 'tables["users"] is a non-empty list of columns' in text
    assert "backup_before_delete: there is no such setting; every deletion is backed up" in text
    assert all(line in str(caught.value) for line in problems)


def test_what_two_settings_make_wrong_together_is_said_with_all_the_rest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_config(
            bucket="my-bucket",
            mode="delete",
            cdc_backend="postgres",
            exclude_prefixes=["a/", ""],
            sources=[{"name": "a"}, {"name": "a"}],
            vault_path="s3://my-bucket/",
        )
    text = str(caught.value)
    assert "5 problems" not in text, "sources are there, so cdc_backend may be theirs"
    for said in (
        "mode: Input should be",
        "exclude_prefixes: the empty prefix excludes everything",
        "sources: two sources are named 'a'",
        "the vault s3://my-bucket/ is the root of the bucket itself",
    ):
        assert said in text
    with pytest.raises(ConfigurationError, match="cdc_backend is set, and nothing says which database"):
        create_config(bucket="my-bucket", cdc_backend="postgres")
    source = {"name": "a", "url": "postgresql://db/a", "tables": [{"table": "t", "columns": ["c"]}]}
    with pytest.raises(ConfigurationError, match="a source takes its own cdc"):
        create_config(bucket="my-bucket", cdc_backend="postgres", sources=[source])


def test_no_problem_shows_a_credential() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_config("my-bucket", database_url="postgressql://app:hunter2@db/shop")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.details)
    draft = builder.with_database_url(create_empty_config(), "postgresql://app:hunter2@db/shop")
    assert "hunter2" not in repr(draft)


def test_a_draft_is_a_value_of_its_own() -> None:
    empty = create_empty_config()
    one = with_bucket(empty, "my-bucket")
    two = scan_table(one, "users", ["avatar_url"])
    three = scan_table(two, "users", ["cover", "avatar_url"])
    assert (empty.settings, dict(one.settings)) == ({}, {"bucket": "my-bucket"})
    assert build_config(two).tables == {"users": ("avatar_url",)}
    assert build_config(three).tables == {"users": ("avatar_url", "cover")}
    with pytest.raises(TypeError):
        one.settings["bucket"] = "x"  # type: ignore[index]
    with pytest.raises(AttributeError):
        one.settings = {}  # type: ignore[misc]


def test_nothing_is_judged_before_the_whole_is_there() -> None:
    draft = scan_table(builder.enable_cdc(create_empty_config(), "oracle", "nonsense"), "users", "avatar_url")
    with pytest.raises(ConfigurationError) as caught:
        build_config(draft)
    problems = "\n".join(caught.value.details["errors"])  # type: ignore[arg-type]
    for field in ("bucket: Field required", "tables:", "cdc_backend:", "cdc_connection_url:"):
        assert field in problems


def test_steps_compose_in_order() -> None:
    config = build_from_steps(
        lambda c: with_bucket(c, "my-bucket"),
        pipe(builder.execute_mode, builder.audit_only_mode),
        lambda c: builder.exclude_prefixes(c, ["backups/", "system/"]),
        lambda c: builder.exclude_prefix(c, "legal/"),
        lambda c: builder.retain_objects_older_than(c, 14),
        lambda c: builder.enable_vault(c, "/var/lib/vault"),
        lambda c: builder.enable_cdc(c, CDCBackend.POSTGRES, "postgresql://db/shop"),
        lambda c: builder.run_daily_at(c, "02:30"),
        lambda c: builder.with_max_concurrent_ops(c, 8),
    )
    assert config == create_config(
        "my-bucket",
        mode=GCMode.AUDIT_ONLY,
        exclude_prefixes=["backups/", "system/", "legal/"],
        retention_days=14,
        vault_path="/var/lib/vault",
        cdc_backend="postgres",
        cdc_connection_url="postgresql://db/shop",
        schedule_cron="02:30",
        concurrency=8,
    )
    assert pipe()(Draft()) == Draft()
    assert builder.dry_run_mode(Draft()).settings["mode"] is GCMode.DRY_RUN


def test_a_finished_policy_is_taken_as_it_is() -> None:
    config = create_config("my-bucket")
    assert build_config(config) is config


def test_the_environment_is_read_under_its_own_names() -> None:
    config = create_config_from_env(
        environ={
            "S3_BUCKET": "my-bucket",
            "AWS_REGION": "eu-west-1",
            "S3GC_MODE": "audit_only",
            "S3GC_VAULT_PATH": "/vault",
            "S3GC_RETENTION_DAYS": "30",
            "S3GC_EXCLUDE_PREFIXES": "backups/, system/",
            "S3GC_TABLES": "users:avatar_url,cover; posts:image",
            "S3GC_BASE_URLS": "https://cdn.example.com/=img/",
            "S3GC_LIMITS": '{"maxDeletePercent": 3}',
            "S3GC_DELETION": "best_effort",
            "S3GC_PATH_STYLE": "true",
            "S3GC_SCHEDULE_CRON": "02:30",
            "DATABASE_URL": "postgresql://db/shop",
            "S3GC_CDC_BACKEND": "",
            "S3GC_ADMIN_API_KEY": "not ours to read",
        }
    )
    assert config == create_config(
        "my-bucket",
        region="eu-west-1",
        mode="audit_only",
        vault_path="/vault",
        retention_days=30,
        exclude_prefixes=["backups/", "system/"],
        tables={"users": ["avatar_url", "cover"], "posts": ["image"]},
        base_urls=[{"url": "https://cdn.example.com/", "key_prefix": "img/"}],
        limits={"max_delete_percent": 3},
        deletion={"condition": "best_effort"},
        path_style=True,
        schedule_cron="02:30",
        database_url="postgresql://db/shop",
    )


def test_keywords_win_over_the_environment() -> None:
    config = create_config_from_env(
        tables={"users": ["avatar_url"]},
        environ={"S3GC_BUCKET": "my-bucket", "S3GC_TABLES": "posts:image", "S3GC_MODE": "execute"},
        mode="dry_run",
    )
    assert (config.tables, config.mode) == ({"users": ("avatar_url",)}, GCMode.DRY_RUN)


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_config_from_env(
            environ={
                "S3_BUCKET": "Bad_Bucket",
                "S3GC_TABLES": "users",
                "S3GC_LIMITS": "10",
                "S3GC_RETENTION_DAYS": "-1",
                "DATABASE_URL": "oracle://scott:tiger@db/shop",
            }
        )
    text = str(caught.value)
    assert "5 problems" in text
    for name in ("S3_BUCKET", "S3GC_TABLES", "S3GC_LIMITS", "S3GC_RETENTION_DAYS", "DATABASE_URL"):
        assert f"- {name}" in text
    assert "tiger" not in text


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "S3GC_BUCKET: Field required"),
        ({"S3_BUCKET": "Bad_Bucket"}, "S3_BUCKET: 'Bad_Bucket' is not a bucket name"),
        ({"S3GC_BUCKET": "my-bucket", "S3GC_RETENTION_DAYS": "soon"}, "S3GC_RETENTION_DAYS: Input should be"),
        ({"S3GC_BUCKET": "my-bucket", "S3GC_TABLES": "users"}, "S3GC_TABLES 'users' is not table:column"),
        ({"S3GC_BUCKET": "my-bucket", "S3GC_SOURCES": "[{"}, "S3GC_SOURCES is not JSON"),
        ({"S3GC_BUCKET": "my-bucket", "S3GC_LIMITS": "10"}, "S3GC_LIMITS takes JSON"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_config_from_env(environ=environ)
    assert said in str(caught.value)
