"""Every file in examples/ is one that works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3gc.policy import load_policy

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def test_every_policy_is_one() -> None:
    policies = sorted(EXAMPLES.glob("policy*.yaml"))
    assert policies
    secrets = {"S3GC_SOURCE_0_URL": "postgresql://db/shop", "S3GC_SOURCE_0_CDC_URL": "postgresql://db/shop"}
    for path in policies:
        assert load_policy(path, secrets).has_source


async def test_the_library_s_example_runs(
    minio: Any, postgres: Any, make_bucket: Callable[..., str], s3_client: Callable[..., Any], tmp_path: Path
) -> None:
    import asyncpg

    bucket = make_bucket(minio)
    s3_client(minio).put_object(Bucket=bucket, Key="a.jpg", Body=b"a")
    dsn = await postgres.fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE users (avatar_url text); INSERT INTO users VALUES ('a.jpg')")
    await connection.close()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "AWS_ACCESS_KEY_ID": minio.access_key,
        "AWS_SECRET_ACCESS_KEY": minio.secret_key,
        "AWS_ENDPOINT_URL_S3": minio.endpoint,
        "DATABASE_URL": dsn,
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "library.py"), bucket, "users:avatar_url"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "users.avatar_url: 1 of 1 values name an object" in done.stdout
    assert "0 of 1 objects would go" in done.stdout
