"""Bringing objects back: by removing delete markers in place, and by PUT into another bucket; beside `s5cmd cp`.

A versioned bucket holds only orphans and one object that is referenced; an execute removes them all, then each way of
restoring is measured. The peer uploads the same bodies from a folder, one request an object.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import asyncpg
from tests.testbed.services import Home, s3_client, start_postgres

from benchmarks import corpus
from benchmarks.harness import Measure, Report, client, median, ratio, run
from benchmarks.seeding import BUCKET, s5cmd_command, seeded_minio

NAME = "restoring"
REFERENCED = "kept.jpg"


def measure(objects: int = 20_000, size: int = 8192, runs: int = 1) -> Report:
    report = Report(
        NAME,
        f"Restoring {objects:,} objects of {size:,} bytes on MinIO",
        ["wall s", "objects/s", "CPU s", "against s5cmd cp"],
        {"objects": objects, "size": size, "runs": runs},
    )
    marker: list[Measure] = []
    puts: list[Measure] = []
    uploads: list[Measure] = []
    for _ in range(runs):
        home = Home()
        try:
            server = seeded_minio(home, objects * 10, size, only_orphans=True)
            s3 = s3_client(server)
            s3.put_object(Bucket=BUCKET, Key=REFERENCED, Body=b"kept")
            for name in ("restored-put", "restored-peer"):
                s3.create_bucket(Bucket=name)
            dsn = asyncio.run(start_postgres(home).fresh_database())
            asyncio.run(_one_reference(dsn))
            with tempfile.TemporaryDirectory() as work:
                options = {
                    "bucket": BUCKET, "endpoint_url": server.endpoint, "database_url": dsn, "mode": "execute",
                    "tables": {"files": ["key"]}, "vault_path": f"{work}/vault",
                    "limits": {"max_delete_percent": 100},
                }  # fmt: skip
                cycle = run(client("cycle", **options), objects, server.environment)
                if cycle.answer["deleted_count"] != objects:
                    raise RuntimeError(f"the execute before the restore failed: {json.dumps(cycle.answer)}")
                again = {**options, "operation_id": cycle.answer["operation_id"]}
                puts.append(
                    run(
                        client("restore", to={"target_bucket": "restored-put"}, **again),
                        0,
                        server.environment,
                    )
                )
                marker.append(run(client("restore", **again), 0, server.environment))
                files = Path(work) / "files"
                for i in filter(corpus.is_orphan, range(objects * 10)):
                    path = files / corpus.key(i)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(corpus.body(i, size))
                words = ["--numworkers", "64", "cp", f"{files}/*", "s3://restored-peer/"]
                uploads.append(run(s5cmd_command(server, words), objects, server.environment))
        finally:
            home.close(timeout_seconds=900)
    for found in (*marker, *puts):
        if found.items != objects:
            raise RuntimeError(f"restored {found.items} of {objects} objects: {found.answer}")
    base = median(uploads, lambda m: m.wall_seconds)
    for name, measures in (
        ("s3gc, markers removed in place", marker),
        ("s3gc, PUT to another bucket", puts),
        ("s5cmd cp from a folder", uploads),
    ):
        wall, cpu = median(measures, lambda m: m.wall_seconds), median(measures, lambda m: m.cpu_seconds)
        report.add(name, [f"{wall:.1f}", f"{objects / wall:.0f}", f"{cpu:.1f}", ratio(wall, base)], measures)
        report.numbers[name] = {"objects_per_second": objects / wall, "cpu_seconds": cpu}
    return report


async def _one_reference(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE files (id int primary key, key text)")
        await connection.execute("INSERT INTO files VALUES (1, $1)", REFERENCED)
    finally:
        await connection.close()
