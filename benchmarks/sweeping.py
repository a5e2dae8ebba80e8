"""A whole execute on MinIO: orphans of 8 KiB among ten times as many objects, in a versioned bucket.

The peer is handed the list of orphans for nothing and only copies them to a folder (`s5cmd cp`) and removes them
(`s5cmd rm`), one request a key each, 64 at once. s3gc lists, reads references, joins, backs up with a read-back,
verifies again, deletes under a condition, checks. Its phases are set beside the two commands; each side has a MinIO
of its own, copied from the same filled folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.testbed.services import Home, start_postgres

from benchmarks import corpus
from benchmarks.harness import Measure, Report, client, median, ratio, run
from benchmarks.marking import fill
from benchmarks.seeding import BUCKET, orphan_keys, s5cmd_command, seeded_minio, write_commands

NAME = "sweeping"


def measure(orphans: int = 20_000, size: int = 8192, runs: int = 1) -> Report:
    objects = orphans * 10
    report = Report(
        NAME,
        f"Execute on MinIO: {orphans:,} orphans of {size:,} bytes among {objects:,} objects, versioned",
        ["wall s", "objects/s", "CPU s", "peak RSS MiB"],
        {"orphans": orphans, "objects": objects, "size": size, "runs": runs},
    )
    cycles: list[Measure] = []
    copies: list[Measure] = []
    removals: list[Measure] = []
    for _ in range(runs):
        home = Home()
        try:
            dsn = fill(start_postgres(home), objects, f"'{corpus.CDN}' || k")
            server = seeded_minio(home, objects, size)
            with tempfile.TemporaryDirectory() as work:
                options = {
                    "bucket": BUCKET, "endpoint_url": server.endpoint, "database_url": dsn, "mode": "execute",
                    "tables": {"files": ["url"]}, "base_urls": [{"url": corpus.CDN}], "vault_path": f"{work}/vault",
                    "limits": {"max_delete_percent": 50},
                }  # fmt: skip
                cycles.append(run(client("cycle", **options), objects, server.environment))
            server.close()
            peer = seeded_minio(home, objects, size)
            keys = orphan_keys(objects)
            with tempfile.TemporaryDirectory() as work:
                folder = Path(work)
                copy = write_commands(
                    folder / "cp", [f'cp "s3://{BUCKET}/{key}" "{work}/b/{key}"' for key in keys]
                )
                remove = write_commands(folder / "rm", [f'rm "s3://{BUCKET}/{key}"' for key in keys])
                for found, commands in ((copies, copy), (removals, remove)):
                    words = ["--numworkers", "64", "run", str(commands)]
                    found.append(run(s5cmd_command(peer, words), len(keys), peer.environment))
            peer.close()
        finally:
            home.close(timeout_seconds=900)
    for cycle in cycles:
        if cycle.answer["deleted_count"] != corpus.orphans(objects) or cycle.answer["outcome"] != "Succeeded":
            raise RuntimeError(f"the cycle did not delete exactly the orphans: {cycle.answer}")

    def phase(*names: str) -> float:
        return median(cycles, lambda m: sum(m.answer["phase_seconds"].get(name, 0.0) for name in names))

    whole, cpu = median(cycles, lambda m: m.wall_seconds), median(cycles, lambda m: m.cpu_seconds)
    rss = max(m.rss_mb or 0 for m in cycles)
    report.add(
        "s3gc, the whole cycle",
        [f"{whole:.1f}", f"{orphans / whole:.0f}", f"{cpu:.1f}", f"{rss:.0f}"],
        cycles,
    )
    for name in cycles[0].answer["phase_seconds"]:
        seconds = phase(name)
        report.add(
            f"  phase {name}",
            [f"{seconds:.1f}", f"{orphans / seconds:.0f}" if seconds > 0.05 else "", "", ""],
        )
    for name, measures in (("s5cmd cp to a folder", copies), ("s5cmd rm", removals)):
        wall, cpu = median(measures, lambda m: m.wall_seconds), median(measures, lambda m: m.cpu_seconds)
        report.add(name, [f"{wall:.1f}", f"{orphans / wall:.0f}", f"{cpu:.1f}", ""], measures)
    pair = median(copies, lambda m: m.wall_seconds) + median(removals, lambda m: m.wall_seconds)
    requests = {name: count / orphans for name, count in sorted(cycles[0].answer["requests"].items())}
    report.numbers = {
        "cycle_wall_seconds": whole,
        "s5cmd_wall_seconds": pair,
        "backup_against_s5cmd_cp": phase("BackingUp") / median(copies, lambda m: m.wall_seconds),
        "delete_against_s5cmd_rm": phase("Deleting") / median(removals, lambda m: m.wall_seconds),
        "requests_per_orphan": requests,
    }
    report.notes.append(
        f"The whole cycle against s5cmd cp + rm alone: {ratio(whole, pair)}; backing up against cp: "
        f"{report.numbers['backup_against_s5cmd_cp']:.2f}×; deleting against rm: "
        f"{report.numbers['delete_against_s5cmd_rm']:.2f}×."
    )
    report.notes.append(
        "Requests an orphan: " + ", ".join(f"{name} {count:.3f}" for name, count in requests.items())
    )
    return report
