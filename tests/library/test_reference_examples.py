"""The API reference's own examples, as they are written there (the bucket's name aside), on a real store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.services import let_time_pass

from s3gc.exceptions import ConfigurationError


@pytest.fixture
def bucket(
    minio: Any,
    make_bucket: Callable[..., str],
    s3_client: Callable[..., Any],
    credentials: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> str:
    """A versioned bucket with three old-enough objects, in an environment as AWS's own tools want it."""
    credentials(minio)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", minio.endpoint)
    monkeypatch.chdir(tmp_path)  # the default vault is ./s3gc_vault
    name = make_bucket(minio, versioning=True)
    for key in ("a.jpg", "b.jpg", "c.jpg"):
        s3_client(minio).put_object(Bucket=name, Key=key, Body=key.encode() * 100)
    let_time_pass(minio, name)
    return name


# --- create_config()


def test_create_config_minimal() -> None:
    from s3gc import create_config

    config = create_config(bucket="my-bucket")

    assert config.bucket == "my-bucket"
    assert config.region == "us-east-1"
    assert config.tables == {}
    assert config.mode == "dry_run"
    assert config.retention_days == 7
    assert list(config.exclude_prefixes) == []
    assert config.vault_path == "./s3gc_vault"
    assert config.cdc_backend is None
    assert config.cdc_connection_url is None
    assert config.schedule_cron is None


def test_create_config_with_tables() -> None:
    from s3gc import create_config

    config = create_config(bucket="my-bucket", tables={"users": ["avatar_url"], "posts": ["image_url"]})

    assert config.tables == {"users": ("avatar_url",), "posts": ("image_url",)}


def test_create_config_in_full() -> None:
    from s3gc import create_config

    config = create_config(
        bucket="my-bucket",
        region="us-west-2",
        tables={"users": ["avatar_url"]},
        exclude_prefixes=["backups/"],
        retention_days=7,
        vault_path="/var/lib/vault",
        cdc_backend="postgres",
        cdc_connection_url="postgresql://...",
        schedule_cron="02:30",
    )

    assert config.region == "us-west-2"
    assert config.cdc_backend == "postgres"
    assert config.schedule_cron == "02:30"


def test_build_config() -> None:
    from s3gc.builder import build_config, create_empty_config, with_bucket

    config = build_config(with_bucket(create_empty_config(), "my-bucket"))

    from s3gc import S3GCConfig, create_config

    assert isinstance(config, S3GCConfig)
    assert config == create_config(bucket="my-bucket")


def test_a_config_is_immutable() -> None:
    from pydantic import ValidationError

    from s3gc import create_config

    with pytest.raises(ValidationError):
        create_config(bucket="my-bucket").bucket = "another"  # type: ignore[misc]


# --- run_gc_cycle(), get_metrics(), shutdown_gc_state()


async def test_run_gc_cycle(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    from s3gc import create_config, initialize_gc_state, run_gc_cycle

    config = create_config(bucket=bucket)
    state = await initialize_gc_state(config)
    result = await run_gc_cycle(config, state)

    print(f"Deleted: {result.deleted_count}")

    assert capsys.readouterr().out.endswith("Deleted: 0\n")
    assert len(result.operation_id) == 26
    assert (result.total_scanned, result.verified_orphans, result.backed_up_count) == (3, 0, 0)
    assert result.errors == []
    assert result.duration_seconds > 0
    assert (
        result.unverifiable_count + result.young_count == 3
    )  # no database: nothing can vouch for any of them

    from s3gc import shutdown_gc_state

    await shutdown_gc_state(state)
    await shutdown_gc_state(state)


async def test_metrics_and_restore(
    bucket: str, postgres: Any, minio: Any, s3_client: Callable[..., Any]
) -> None:
    import asyncpg

    from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state

    dsn = await postgres.fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE users (avatar_url text); INSERT INTO users VALUES ('a.jpg'), ('b.jpg')"
    )
    await connection.close()
    config = create_config(
        bucket=bucket, tables={"users": ["avatar_url"]}, database_url=dsn, mode="execute", retention_days=0
    )
    state = await initialize_gc_state(config)
    done = await run_gc_cycle(config, state)
    assert (done.deleted_count, done.backed_up_count, done.errors) == (1, 1, [])

    from s3gc import get_metrics

    metrics = await get_metrics(config, state)
    print(f"Total deleted: {metrics.total_deleted}")
    assert (metrics.total_runs, metrics.total_deleted, metrics.total_backed_up) == (1, 1, 1)
    assert metrics.last_run_at is not None
    assert metrics.vault_size_bytes > 0
    assert metrics.avg_compression_ratio > 0

    import aiosqlite

    from s3gc.backup.restore import restore_operation

    async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
        result = await restore_operation(
            config, state, vault_db, operation_id=done.operation_id, dry_run=False
        )

    assert (result.restored_count, result.failed_count, result.errors) == (1, 0, [])
    body = s3_client(minio).get_object(Bucket=bucket, Key="c.jpg")["Body"].read()
    assert body == b"c.jpg" * 100
    await shutdown_gc_state(state)


async def test_a_restore_that_does_not_say_so_is_a_dry_run(bucket: str) -> None:
    import inspect

    from s3gc.backup.restore import restore_operation

    parameters = inspect.signature(restore_operation).parameters
    assert parameters["dry_run"].default is True
    assert parameters["skip_existing"].default is True
    assert list(parameters)[:4] == ["config", "state", "vault_db", "operation_id"]


async def test_execute_without_a_database_is_refused_when_it_runs(bucket: str) -> None:
    from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state

    config = create_config(bucket=bucket, tables={"users": ["avatar_url"]}, mode="execute")
    state = await initialize_gc_state(config)
    with pytest.raises(ConfigurationError):
        await run_gc_cycle(config, state)
    await shutdown_gc_state(state)


def test_the_exceptions_are_where_the_reference_says() -> None:
    from s3gc.exceptions import (
        BackupError,
        CDCError,
        ConfigurationError,
        RestoreError,
        S3GCError,
        VaultError,
    )

    for error in (ConfigurationError, BackupError, RestoreError, CDCError, VaultError):
        assert issubclass(error, S3GCError)


def test_the_public_names_are_exact() -> None:
    import s3gc

    assert s3gc.__all__ == sorted(s3gc.__all__)
    assert set(s3gc.__all__) <= set(dir(s3gc))
    for name in s3gc.__all__:
        assert getattr(s3gc, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = s3gc.nothing_of_the_kind  # type: ignore[attr-defined]
