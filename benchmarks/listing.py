"""CPU per key of listing a bucket: s3gc beside boto3, s5cmd and the floor of a signed fetch without parsing.

The server is a stub with pre-rendered pages in a process of its own, because a real server would cost more than any
of the clients. boto3 lists a fifth of the keys (its cost is linear, and it would take most of the time).
"""

from __future__ import annotations

import tempfile

from tests.stub.server import BUCKET
from tests.testbed import tools

from benchmarks import liststub
from benchmarks.harness import Measure, Report, client, median, ratio, repeat, run

NAME = "listing"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}


def measure(keys: int = 1_000_000, runs: int = 3) -> Report:
    report = Report(
        NAME,
        f"Listing {keys:,} keys",
        ["CPU s", "µs/key", "against s3gc", "wall s", "peak RSS MiB"],
        {"keys": keys, "runs": runs, "server": "stub with pre-rendered pages, its own process"},
    )
    fifth = max(1000, keys // 5)
    with liststub.start(keys) as endpoint, liststub.start(fifth) as smaller:
        found: dict[str, list[Measure]] = {}

        def contend(name: str, command: list[str], count: int) -> None:
            def once() -> Measure:
                measured = run(command, count, CREDENTIALS)
                if measured.items != count:
                    raise RuntimeError(f"{name} listed {measured.items:,} of {count:,} keys")
                return measured

            found[name] = repeat(runs, once)

        contend("s3gc list_pages", client("list_pages", endpoint=endpoint, bucket=BUCKET), keys)
        with tempfile.TemporaryDirectory() as work:

            def inventory() -> Measure:
                with tempfile.TemporaryDirectory(dir=work) as own:
                    options = {"endpoint": endpoint, "bucket": BUCKET, "work": own, "concurrency": 16}
                    return run(client("inventory", **options), keys, CREDENTIALS)

            found["s3gc take_inventory (16 ranges, Parquet)"] = repeat(runs, inventory)
        contend("bare signed fetch, no parsing", client("bare", endpoint=endpoint, bucket=BUCKET), keys)
        s5cmd = f"'{tools.binary('s5cmd')}' --endpoint-url {endpoint} ls 's3://{BUCKET}/*' | wc -l"
        contend("s5cmd ls", ["bash", "-c", s5cmd], keys)
        contend(f"boto3 paginator ({fifth:,} keys)", client("boto3", endpoint=smaller, bucket=BUCKET), fifth)
    base = median(found["s3gc list_pages"], _per_key)
    for name, measures in found.items():
        per_key = median(measures, _per_key)
        rss = measures[0].rss_mb
        report.add(
            name,
            [
                f"{median(measures, lambda m: m.cpu_seconds):.2f}",
                f"{per_key:.2f}",
                ratio(per_key, base),
                f"{median(measures, lambda m: m.wall_seconds):.2f}",
                f"{rss:.0f}" if rss else "",
            ],
            measures,
        )
        report.numbers[name] = {"us_per_key": per_key, "ratio": per_key / base}
    report.notes.append(
        "CPU is the whole client process, start-up and imports included; the server's is not counted."
    )
    return report


def _per_key(measured: Measure) -> float:
    return measured.cpu_seconds / measured.items * 1e6
