"""A dry run from Python: what would go, and whether the columns are understood.

    DATABASE_URL=postgresql://readonly@db/shop python examples/library.py my-bucket users:avatar_url posts:body

Credentials come from AWS's own variables, profiles or roles; AWS_ENDPOINT_URL_S3 names another store than AWS.
"""

from __future__ import annotations

import asyncio
import sys

from s3gc import GCResult, create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
from s3gc.exceptions import S3GCError, exit_code


async def dry_run(bucket: str, tables: dict[str, list[str]]) -> GCResult:
    config = create_config(bucket=bucket, tables=tables, retention_days=7, exclude_prefixes=["backups/"])
    state = await initialize_gc_state(config)
    try:
        return await run_gc_cycle(config, state)
    finally:
        await shutdown_gc_state(state)


def main(arguments: list[str]) -> int:
    bucket, *columns = arguments
    tables: dict[str, list[str]] = {}
    for column in columns:
        table, _, name = column.rpartition(":")
        tables.setdefault(table, []).append(name)
    try:
        result = asyncio.run(dry_run(bucket, tables))
    except S3GCError as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    for column_read in result.coverage:
        print(f"{column_read.column}: {column_read.resolved} of {column_read.values} values name an object")
    print(f"{result.verified_orphans} of {result.total_scanned} objects would go")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
