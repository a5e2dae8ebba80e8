"""Finding the orphans end to end: a dry run of s3gc beside the pipeline that people write instead.

As many objects as references; the references are URLs in a PostgreSQL table, one object in ten is an orphan, as many
references name nothing. s3gc does more for its time (every doubt, coverage, guards, a plan with a digest), and both
must find the same number. Servers (PostgreSQL, the listing stub) are not counted for either.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile

import asyncpg
from tests.stub.server import BUCKET
from tests.testbed import tools
from tests.testbed.databases import postgres_program
from tests.testbed.services import Home, Postgres, start_postgres

from benchmarks import corpus, liststub
from benchmarks.harness import Measure, Report, client, median, ratio, run

NAME = "marking"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}

#: The usual script, as good as it gets: one listing, one COPY, C-locale sorts, one merge. No query, no escapes, no
#: second spelling of a key: a single URL with `%20` or `?v=2` in it and this deletes a customer's file.
PIPELINE = """
set -euo pipefail; export LC_ALL=C TMPDIR={work}; cd {work}
{s5cmd} --endpoint-url {endpoint} ls --show-fullpath 's3://{bucket}/*' \\
    | sed 's,^s3://{bucket}/,,' | sort -S 256M > objects
{psql} -qXAt {dsn} -c 'COPY (SELECT url FROM files) TO STDOUT' | sed 's,^{cdn},,' | sort -S 256M > references
comm -23 objects references | wc -l
"""


def fill(server: Postgres, count: int, value: str, column: str = "url") -> str:
    """A fresh database with `files` (id, column); gives its DSN."""

    async def prepare() -> str:
        dsn = await server.fresh_database()
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(
                corpus.rows_sql("files", count, value).replace("value text", f"{column} text")
            )
        finally:
            await connection.close()
        return dsn

    return asyncio.run(prepare())


def measure(objects: int = 1_000_000, runs: int = 3) -> Report:
    report = Report(
        NAME,
        f"Marking {objects:,} objects against {objects:,} URLs in PostgreSQL",
        ["CPU s", "wall s", "CPU against the pipeline", "wall against it", "peak RSS MiB"],
        {"objects": objects, "references": objects, "runs": runs},
    )
    s5cmd = shlex.quote(str(tools.binary("s5cmd")))
    ours: list[Measure] = []
    theirs: list[Measure] = []
    home = Home()
    try:
        server = start_postgres(home)
        dsn = fill(server, objects, f"'{corpus.CDN}' || k")
        with liststub.start(objects) as endpoint:
            for _ in range(runs):
                with tempfile.TemporaryDirectory() as work:
                    options = {
                        "bucket": BUCKET, "endpoint_url": endpoint, "database_url": dsn,
                        "tables": {"files": ["url"]}, "base_urls": [{"url": corpus.CDN}], "vault_path": f"{work}/vault",
                        "limits": {"max_delete_percent": 50},
                    }  # fmt: skip
                    ours.append(run(client("cycle", **options), objects, CREDENTIALS))
                with tempfile.TemporaryDirectory() as work:
                    script = PIPELINE.format(
                        work=work, psql=postgres_program("psql"), s5cmd=s5cmd, endpoint=endpoint, bucket=BUCKET,
                        dsn=shlex.quote(dsn), cdn=corpus.CDN,
                    )  # fmt: skip
                    theirs.append(run(["bash", "-c", script], 0, CREDENTIALS))
    finally:
        home.close()
    expected = corpus.orphans(objects)
    for measured in ours:
        if measured.answer["candidates_found"] != expected or measured.items != objects:
            raise RuntimeError(
                f"s3gc found {measured.answer['candidates_found']} of {expected} orphans: {measured.answer}"
            )
    for measured in theirs:
        if measured.items != expected:
            raise RuntimeError(f"the pipeline found {measured.items} of {expected} orphans")
    base_cpu, base_wall = median(theirs, lambda m: m.cpu_seconds), median(theirs, lambda m: m.wall_seconds)
    for name, measures in (("s3gc dry run (library)", ours), ("s5cmd ls, psql COPY, sort, comm", theirs)):
        cpu, wall = median(measures, lambda m: m.cpu_seconds), median(measures, lambda m: m.wall_seconds)
        rss = f"{max(m.rss_mb or 0 for m in measures):.0f}" if measures[0].rss_mb else ""
        report.add(
            name, [f"{cpu:.2f}", f"{wall:.2f}", ratio(cpu, base_cpu), ratio(wall, base_wall), rss], measures
        )
        report.numbers[name] = {"cpu_seconds": cpu, "wall_seconds": wall}
    phases = ours[len(ours) // 2].answer.get("phase_seconds", {})
    report.notes.append(
        "Phases of s3gc: " + ", ".join(f"{name} {value:.1f} s" for name, value in phases.items())
    )
    return report
