"""Ten million objects against ten million references in at most one GiB: the promise that memory is a setting.

A dry run through the library, all rules on, against the listing stub and a real PostgreSQL, with keys of 60 bytes.
Fails when the peak of resident memory (VmHWM) is above the limit, or when the orphans are not exactly the orphans.
"""

from __future__ import annotations

import shutil
import tempfile

from tests.stub.server import BUCKET
from tests.testbed.services import Home, start_postgres

from benchmarks import corpus, liststub
from benchmarks.harness import Report, client, run
from benchmarks.marking import CREDENTIALS, fill

NAME = "large"


def measure(objects: int = 10_000_000, limit_mb: int = 1024) -> Report:
    report = Report(
        NAME,
        f"A dry run over {objects:,} objects and {objects:,} references",
        ["wall s", "CPU s", "peak RSS MiB", "limit MiB"],
        {"objects": objects, "references": objects, "key bytes": corpus.KEY_BYTES, "limit MiB": limit_mb},
    )
    needed = objects * 1000
    if shutil.disk_usage(tempfile.gettempdir()).free < needed:
        raise SystemExit(
            f"{tempfile.gettempdir()} needs {needed >> 20:,} MiB free; set TMPDIR to a larger disk"
        )
    home = Home()
    try:
        dsn = fill(start_postgres(home, settings={"max_wal_size": "8GB"}), objects, "k", column="key")
        print(f"filled PostgreSQL with {objects:,} rows", flush=True)
        with liststub.start(objects) as endpoint, tempfile.TemporaryDirectory() as work:
            options = {
                "bucket": BUCKET, "endpoint_url": endpoint, "database_url": dsn, "tables": {"files": ["key"]},
                "vault_path": f"{work}/vault", "work_dir": f"{work}/work", "limits": {"max_delete_percent": 50},
            }  # fmt: skip
            measured = run(client("cycle", **options), objects, CREDENTIALS)
    finally:
        home.close()
    answer, rss = measured.answer, measured.rss_mb or 0.0
    expected = corpus.orphans(objects)
    if measured.items != objects or answer["candidates_found"] != expected:
        raise RuntimeError(f"found {answer['candidates_found']:,} of {expected:,} orphans: {answer}")
    report.add(
        "s3gc dry run (library)",
        [f"{measured.wall_seconds:.0f}", f"{measured.cpu_seconds:.0f}", f"{rss:.0f}", f"{limit_mb}"],
        [measured],
    )
    report.numbers = {"rss_mb": rss, "wall_seconds": measured.wall_seconds, "phases": answer["phase_seconds"]}
    report.notes.append("Phases: " + ", ".join(f"{k} {v:.0f} s" for k, v in answer["phase_seconds"].items()))
    if rss > limit_mb:
        report.show()
        raise SystemExit(f"peak memory was {rss:.0f} MiB, above the limit of {limit_mb} MiB")
    return report
