"""What verification costs on each level, and what the application feels of it: PostgreSQL, a table of `rows` rows.

* a drain of 100,000 changes, and one of none;
* verifying 1,000 keys by the stream, by asking for them (with an index and without), by reading everything again;
* how long an object is away that was deleted and turned out to be referenced, on each level;
* pgbench's own transactions a second, alone and beside verifications that never pause.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from tests.testbed.databases import postgres_program
from tests.testbed.services import (
    Home,
    Postgres,
    S3Server,
    make_bucket,
    s3_client,
    start_minio,
    start_postgres,
)

from benchmarks.harness import Report, ratio
from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.config import SourceConfig
from s3gc.references.cdc.following import Following
from s3gc.references.sources import open_source
from s3gc.references.types import ReferenceRules
from s3gc.results import Progress
from s3gc.sweep.verify import Verifier

NAME = "verifying"
CHANGES = 100_000
KEYS = [f"nowhere/{number:06d}.jpg" for number in range(1_000)]
#: How long pgbench writes in each of its runs.
PGBENCH_SECONDS = 15

LEVELS: dict[str, dict[str, Any]] = {
    "cdc": {"columns": [{"name": "url"}], "cdc": {"backend": "postgres"}},
    "query, with an index": {"columns": [{"name": "indexed", "format": "key"}]},
    "query, without an index": {"columns": [{"name": "plain", "format": "key"}]},
    "rescan": {"columns": [{"name": "url"}]},
}


def measure(rows: int = 5_000_000, runs: int = 3) -> Report:
    report = Report(
        NAME,
        f"Verification on PostgreSQL, a table of {rows:,} rows",
        ["wall s", ""],
        {"rows": rows, "runs": runs},
    )
    home = Home()
    try:
        postgres, minio = start_postgres(home), start_minio(home)
        os.environ.update(minio.environment)
        asyncio.run(_measure(report, postgres, minio, rows, runs))
    finally:
        home.close()
    return report


async def _measure(report: Report, postgres: Postgres, minio: S3Server, rows: int, runs: int) -> None:
    dsn = await postgres.fresh_database()
    await _fill(dsn, rows)
    with tempfile.TemporaryDirectory() as work:
        async with _Watch(dsn, LEVELS["cdc"], Path(work)) as watch:
            await _sql(
                dsn,
                "INSERT INTO files (indexed, plain, url) SELECT k, k, 'https://cdn.example.com/' || k FROM "
                f"(SELECT 'new/' || i AS k FROM generate_series(1, {CHANGES}) i) q",
            )
            report.add(f"a drain of {CHANGES:,} changes", [f"{await _timed(watch.drain):.2f}", ""])
            quiet = sorted([await _timed(watch.drain) for _ in range(runs)])[runs // 2]
            report.add("a drain of none", [f"{quiet:.3f}", ""])
    for level, options in LEVELS.items():
        with tempfile.TemporaryDirectory() as work:
            async with _Watch(dsn, options, Path(work)) as watch:
                await watch.verify()
                spent = sorted([await _timed(watch.verify) for _ in range(runs)])[runs // 2]
                report.add(f"1,000 keys by {level}", [f"{spent:.3f}", ""])
                report.numbers[f"verify {level}"] = spent
    for level, options in LEVELS.items():
        away = await _away(dsn, minio, options)
        report.add(f"an object wrongly away, {level}", [f"{away:.2f}", ""])
    await _beside_pgbench(report, dsn)


async def _fill(dsn: str, rows: int) -> None:
    await _sql(
        dsn,
        "CREATE TABLE files (id bigserial PRIMARY KEY, indexed text, plain text, url text)",
        "INSERT INTO files (indexed, plain, url) SELECT k, k, 'https://cdn.example.com/' || k FROM "
        f"(SELECT 'uploads/' || (i % 1000) || '/' || md5(i::text) || '.jpg' AS k FROM generate_series(1, {rows}) i) q",
        "CREATE INDEX ON files (indexed)",
        "ANALYZE files",
    )


async def _sql(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=3600)
    finally:
        await connection.close()


async def _timed(action: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await action()
    return time.perf_counter() - began


class _Watch:
    """A source under verification, followed where its level says so."""

    def __init__(self, dsn: str, options: dict[str, Any], work: Path) -> None:
        table = {"table": "files", "columns": options["columns"]}
        fields = {"name": "shop", "url": dsn, "tables": [table], "cdc": options.get("cdc")}
        self._config = SourceConfig.model_validate(fields)
        self._work = work
        self._following: Following | None = None

    async def __aenter__(self) -> _Watch:
        rules = ReferenceRules(bucket="media", base_urls=(("https://cdn.example.com/", ""),))
        self._source = await open_source(self._config, rules)
        preflight = await self._source.preflight(execute=True)
        self._verifier = await Verifier.begin([(self._source, preflight)])
        if self._config.cdc is not None:
            capture = await self._source.capture()
            self._following = Following("shop", preflight.columns, capture, self._work / "changes.jsonl")
            await self._following.begin()
            self._verifier.follow({"shop": self._following})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            await self._following.close()
        await self._source.close()

    async def drain(self) -> None:
        assert self._following is not None
        await self._following.catch_up()

    async def verify(self) -> None:
        if await self._verifier.referenced(KEYS):
            raise RuntimeError("a key that no row names was found")


async def _away(dsn: str, minio: S3Server, options: dict[str, Any]) -> float:
    """Seconds for which an object is not there that a transaction names which commits right after the deletion."""
    s3, bucket = s3_client(minio), make_bucket(minio, versioning=True)
    for number in range(20):
        s3.put_object(Bucket=bucket, Key=f"orphans/{number}", Body=b"x")
    await asyncio.sleep(1.1)
    gone: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            there = "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix="orphans/7")
            if (not there and not gone) or (there and len(gone) == 1):
                gone.append(time.perf_counter())
            time.sleep(0.005)

    late = await asyncpg.connect(dsn)
    begun = asyncio.Event()

    def progress(step: Progress) -> None:
        if step.phase == "Joining" and not begun.is_set():
            begun.set()
            tasks.append(asyncio.create_task(_begin(late)))
        if step.phase == "Checking" and len(tasks) == 1:
            tasks.append(asyncio.create_task(late.execute("COMMIT")))

    tasks: list[asyncio.Task[Any]] = []
    watcher = threading.Thread(target=look)
    with tempfile.TemporaryDirectory() as vault:
        config = create_config(
            bucket=bucket,
            endpoint_url=minio.endpoint,
            path_style=True,
            mode="execute",
            retention_days=0,
            vault_path=vault,
            base_urls=[{"url": "https://cdn.example.com/"}],
            limits={"max_delete_percent": None, "min_resolved_percent": 0},
            sources=[
                {
                    "name": "shop",
                    "url": dsn,
                    "tables": [{"table": "files", "columns": options["columns"]}],
                    "ignore_columns": [f"files.{name}" for name in ("indexed", "plain", "url")],
                    "cdc": options.get("cdc"),
                }
            ],
        )
        state = await initialize_gc_state(config)
        watcher.start()
        try:
            result = await run_gc_cycle(config, state, progress=progress)
        finally:
            stop.set()
            watcher.join()
            await shutdown_gc_state(state)
    await asyncio.gather(*tasks)
    await late.execute("DELETE FROM files WHERE plain = 'orphans/7'")
    await late.close()
    if result.late_references != 1 or len(gone) != 2:
        raise RuntimeError(f"the object was not away and back: {result.outcome} {result.errors} {len(gone)}")
    return gone[1] - gone[0]


async def _begin(late: asyncpg.Connection) -> None:
    await late.execute("BEGIN")
    await late.execute(
        "INSERT INTO files (indexed, plain, url) VALUES ('orphans/7', 'orphans/7', 'https://cdn.example.com/orphans/7')"
    )


async def _beside_pgbench(report: Report, dsn: str) -> None:
    """The application's own writes, alone and beside each level without a pause: more than any cycle would do."""
    alone, latency = await _pgbench(dsn)
    report.add(
        "pgbench, alone", [f"{PGBENCH_SECONDS}", f"{alone:,.0f} transactions/s, {latency:.2f} ms each"]
    )
    for level, options in LEVELS.items():
        with tempfile.TemporaryDirectory() as work:
            async with _Watch(dsn, options, Path(work)) as watch:
                running = asyncio.create_task(_pgbench(dsn))
                while not running.done():
                    await watch.verify()
                    await asyncio.sleep(0.05)
                found, latency = await running
        cells = [
            f"{PGBENCH_SECONDS}",
            f"{found:,.0f} transactions/s, {ratio(found, alone)}, {latency:.2f} ms each",
        ]
        report.add(f"pgbench, beside {level}", cells)
    report.notes.append(
        "pgbench inserts and updates rows of the watched table on 2 connections; none of its transactions failed. "
        "Server, pgbench and s3gc share this machine's cores."
    )


async def _pgbench(dsn: str) -> tuple[float, float]:
    """Transactions a second and their mean latency in ms. Raises when one of them failed."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(
            "\\set n random(1, 1000000000)\nBEGIN;\n"
            "INSERT INTO files (indexed, plain, url) "
            "VALUES ('b/' || :n, 'b/' || :n, 'https://cdn.example.com/b/' || :n);\n"
            "UPDATE files SET url = url || '?v=2' WHERE id = (1 + :n % 1000);\nEND;\n"
        )
        script.flush()
        command = [
            postgres_program("pgbench"), "-n", "-c", "2", "-T", str(PGBENCH_SECONDS), "-f", script.name, dsn,
        ]  # fmt: skip
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    if tps is None or latency is None or (failed is not None and failed[1] != "0"):
        raise RuntimeError(done.stdout + done.stderr)
    return float(tps[1]), float(latency[1])
