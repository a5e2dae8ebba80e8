"""A small world for the command line: a bucket on a real server, a database that references most of it, a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.testbed.services import S3Server, let_time_pass

ROOT = Path(__file__).parents[3]
PROGRAM = "from s3gc.cli import main; main()"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, f"not one line: {self.out!r}\n{self.err}"
        return json.loads(self.out)

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines()]


@dataclass
class Shell:
    """Runs `s3gc` as a process of its own, without a terminal, in a folder of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    limit: Callable[[], None] | None = None  # called in the process before it runs

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT / "operator"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "COLUMNS": "80",
            "LANG": "C.UTF-8",
            **self.environment,
            **changes,
        }
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self.limit,
        )

    def __call__(self, *words: str, **changes: str) -> Ended:
        process = self.start(*words, **changes)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert "Traceback" not in err, err
        return Ended(process.returncode, out, err)


@dataclass
class World:
    """The bucket, the database and the vault; `referenced` and `orphans` are keys."""

    shell: Shell
    server: S3Server
    bucket: str
    dsn: str
    client: Any
    vault: Path
    referenced: set[str]
    orphans: set[str]

    def __call__(self, *words: str, **changes: str) -> Ended:
        return self.shell(*words, **changes)

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        return self.shell.start(*words, **changes)

    def keys(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = {each["Key"] for page in pages for each in page.get("Contents", ())}
        return {key for key in found if not key.startswith(".s3gc/")}

    def put(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.client.put_object(
                Bucket=self.bucket, Key=key, Body=f"bytes of {key}".encode() * 20, ContentType="image/jpeg"
            )
        let_time_pass(self.server, self.bucket)

    async def sql(self, statement: str, *values: object) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def versioned() -> bool:
    """Whether the world's bucket keeps versions; a test that needs another answer parametrizes it."""
    return True


@pytest.fixture
async def world(
    shell: Shell,
    versioned: bool,
    minio: S3Server,
    postgres: Any,
    make_bucket: Callable[..., str],
    s3_client: Callable[..., Any],
) -> World:
    """60 objects in a bucket, 45 of them referenced by users.avatar_url."""
    bucket = make_bucket(minio, versioning=versioned)
    dsn = await postgres.fresh_database()
    vault = shell.folder / "vault"
    shell.environment.update(
        AWS_ACCESS_KEY_ID=minio.access_key,
        AWS_SECRET_ACCESS_KEY=minio.secret_key,
        AWS_ENDPOINT_URL_S3=minio.endpoint,
        DATABASE_URL=dsn,
        S3GC_BUCKET=bucket,
        S3GC_TABLES="users:avatar_url",
        S3GC_VAULT_PATH=str(vault),
        S3GC_RETENTION_DAYS="0",
    )
    if not versioned:  # this store ignores the condition of a DELETE
        shell.environment["S3GC_DELETION"] = "best_effort"
    keys = [f"avatars/{number:03d}.jpg" for number in range(60)]
    world = World(shell, minio, bucket, dsn, s3_client(minio), vault, set(keys[:45]), set(keys[45:]))
    world.put(keys)
    await world.sql("CREATE TABLE users (id serial PRIMARY KEY, avatar_url text)")
    await world.sql(
        "INSERT INTO users (avatar_url) SELECT unnest($1::text[])",
        [f"/{key}" for key in sorted(world.referenced)],
    )
    return world
