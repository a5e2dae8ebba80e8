"""MinIO full of the corpus, quickly: filled once by s5cmd, kept as a folder, copied for each run.

Filling is by far the slowest part of a benchmark on a real server (about a thousand objects a second), so the filled
data folder stays under ``~/.cache/s3gc-testbed/bench`` until `make clean-bench`, one for each size.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.testbed import tools
from tests.testbed.services import Home, S3Server, s3_client, start_minio

from benchmarks import corpus

BUCKET = "shop-media"
#: Changes with the corpus, so that an old folder is never taken for a new one.
EDITION = 1


def seeded_minio(home: Home, objects: int, size: int, *, only_orphans: bool = False) -> S3Server:
    """A MinIO of its own with a versioned bucket of the first `objects` keys (or the orphans among them)."""
    kept = tools.home() / "bench" / f"minio-{EDITION}-{objects}-{size}{'-orphans' if only_orphans else ''}"
    if not kept.exists():
        unfinished = kept.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        started = time.monotonic()
        server = start_minio(home, f"minio-seed-{time.monotonic_ns()}", data=unfinished)
        _fill(home, server, objects, size, only_orphans)
        server.close()
        unfinished.rename(kept)
        print(
            f"filled a bucket with {objects:,} keys in {time.monotonic() - started:.0f} s, kept in {kept}",
            flush=True,
        )
    copy = home.folder(f"minio-data-{time.monotonic_ns()}")
    subprocess.run(["cp", "-a", "--reflink=auto", f"{kept}/.", str(copy)], check=True)
    return start_minio(home, f"minio-{time.monotonic_ns()}", data=copy)


def _fill(home: Home, server: S3Server, objects: int, size: int, only_orphans: bool) -> None:
    client = s3_client(server)
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    files = home.folder(f"seed-{time.monotonic_ns()}")
    for i in range(objects):
        if only_orphans and not corpus.is_orphan(i):
            continue
        path = files / corpus.key(i)
        if i % 5000 == 0 or not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(corpus.body(i, size))
    s5cmd(server, ["--numworkers", "32", "cp", f"{files}/*", f"s3://{BUCKET}/"])
    shutil.rmtree(files)


def s5cmd_command(server: S3Server, words: list[str]) -> list[str]:
    return [str(tools.binary("s5cmd")), "--log", "error", "--endpoint-url", server.endpoint, *words]


def s5cmd(server: S3Server, words: list[str]) -> None:
    subprocess.run(
        s5cmd_command(server, words), env={**os.environ, **server.environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip


def orphan_keys(objects: int) -> list[str]:
    return [corpus.key(i) for i in range(objects) if corpus.is_orphan(i)]


def write_commands(path: Path, lines: list[str]) -> Path:
    """A file for `s5cmd run`: one request a line, so that nothing is batched."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
