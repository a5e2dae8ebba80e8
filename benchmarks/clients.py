"""The measured programs: one does one thing as a user's process would, and says on its last line what it did.

`python -m benchmarks.clients NAME JSON`: started by the harness, never by hand. Imports are inside the functions,
because each contender must pay for its own and for nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3gc import S3GCConfig


# --- listing --------------------------------------------------------------------------------


async def list_pages(endpoint: str, bucket: str) -> dict[str, Any]:
    """`Bucket.list_pages`, one page after the other, every row parsed into Arrow."""
    from s3gc.store.bucket import Bucket

    count = 0
    async with await Bucket.open(bucket, endpoint_url=endpoint) as opened:
        async for page in opened.list_pages():
            count += page.rows.num_rows
    return {"items": count}


async def inventory(endpoint: str, bucket: str, work: str, concurrency: int) -> dict[str, Any]:
    """`take_inventory`: what a cycle does, key ranges side by side, checked and written to Parquet."""
    from s3gc.inventory.listing import take_inventory
    from s3gc.store.bucket import Bucket

    async with await Bucket.open(bucket, endpoint_url=endpoint, concurrency=concurrency) as opened:
        found = await take_inventory(opened, prefixes=[""], work=Path(work), concurrency=concurrency)
    return {"items": found.objects}


async def bare(endpoint: str, bucket: str) -> dict[str, Any]:
    """The floor: a signed aiohttp GET a page, nothing read of it but the token; keys are counted by bytes.count."""
    from datetime import UTC, datetime
    from urllib.parse import urlsplit

    import aiohttp
    from yarl import URL

    from s3gc.store.signing import EMPTY_SHA256, Credentials, Signer, canonical_query

    signer, keys, count, token = Signer("us-east-1"), Credentials("bench", "bench"), 0, ""
    host = urlsplit(endpoint).netloc
    async with aiohttp.ClientSession() as session:
        while True:
            parameters = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000")]
            query = canonical_query([*parameters, *([("continuation-token", token)] if token else [])])
            headers = signer.sign(keys, "GET", host, f"/{bucket}", query, {}, EMPTY_SHA256, datetime.now(UTC))
            url = URL(f"{endpoint}/{bucket}?{query}", encoded=True)
            async with session.get(url, headers=headers) as answer:
                page = await answer.read()
            count += page.count(b"<Contents>")
            start = page.find(b"<NextContinuationToken>")
            if start < 0:
                return {"items": count}
            token = page[start + 23 : page.index(b"<", start + 23)].decode()


async def boto3(endpoint: str, bucket: str) -> dict[str, Any]:
    """boto3's paginator, every key touched."""
    import boto3 as sdk

    client = sdk.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    count = 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page["Contents"]:
            count += bool(item["Key"])
    return {"items": count}


# --- cycles ---------------------------------------------------------------------------------


def _config(**options: Any) -> S3GCConfig:
    from s3gc import create_config

    return create_config(retention_days=0, unreferenced_days=0, **options)


async def cycle(**options: Any) -> dict[str, Any]:
    """One cycle through the public library; the whole result, but for its lists."""
    from s3gc import initialize_gc_state, run_gc_cycle, shutdown_gc_state

    config = _config(**options)
    state = await initialize_gc_state(config)
    try:
        result = await run_gc_cycle(config, state)
    finally:
        await shutdown_gc_state(state)
    told = result.model_dump(mode="json", exclude={"late_reference_keys", "report"})
    return {"items": result.total_scanned, **told}


async def restore(operation_id: str, to: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Bring a whole operation back: in place, or to another bucket (`to`)."""
    import aiosqlite

    from s3gc import initialize_gc_state, shutdown_gc_state
    from s3gc.backup.restore import restore_operation

    config = _config(**options)
    state = await initialize_gc_state(config)
    try:
        async with aiosqlite.connect(state["vault_db_path"]) as catalog:
            result = await restore_operation(
                config, state, catalog, operation_id, dry_run=False, **(to or {})
            )
    finally:
        await shutdown_gc_state(state)
    told = result.model_dump(
        mode="json", include={"restored_count", "failed_count", "skipped_count", "duration_seconds", "errors"}
    )
    return {"items": result.restored_count, **told}


CLIENTS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "list_pages": list_pages,
    "inventory": inventory,
    "bare": bare,
    "boto3": boto3,
    "cycle": cycle,
    "restore": restore,
}


def main() -> None:
    import uvloop

    from benchmarks.harness import peak_rss_mb

    name, options = sys.argv[1], json.loads(sys.argv[2])

    async def call() -> dict[str, Any]:
        return await CLIENTS[name](**options)

    answer = asyncio.run(call()) if name == "boto3" else uvloop.run(call())
    print(json.dumps({**answer, "rss_mb": round(peak_rss_mb(), 1)}))


if __name__ == "__main__":
    main()
