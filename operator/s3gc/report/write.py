"""From an operation in the vault to its page, and the page into the vault.

A report is for people and is never allowed to cost a cycle anything: `write_report` says in the log when it could not
be made, and the cycle's result stands.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from s3gc.exceptions import S3GCError
from s3gc.report.html import render_html
from s3gc.report.prices import Prices
from s3gc.report.summary import Summary, summarise

if TYPE_CHECKING:
    from s3gc.results import GCResult
    from s3gc.vault.operations import Operation

__all__ = ["make_summary", "write_report"]

log = logging.getLogger(__name__)


async def make_summary(
    operation: Operation,
    result: GCResult,
    *,
    prices: Prices | None = None,
    memory_limit_mb: int = 256,
    work: Path | None = None,
) -> Summary:
    """Aggregate what the operation swept (its manifest), or else what it planned. Raises VaultError, S3GCError."""
    with tempfile.TemporaryDirectory(prefix="s3gc-report-", dir=work) as folder:
        for source, name in (("manifest", "manifest.parquet"), ("plan", "plan.parquet")):
            if source == "manifest" and result.mode != "execute":
                continue
            local = Path(folder) / name
            if await _fetched(operation, name, local):
                return await asyncio.to_thread(
                    summarise,
                    result,
                    [local],
                    source=source,
                    prices=prices,
                    memory_limit_mb=memory_limit_mb,
                    work=Path(folder),
                )
    return summarise(result, [], source="", prices=prices)


async def write_report(
    operation: Operation, result: GCResult, *, memory_limit_mb: int = 256, work: Path | None = None
) -> str | None:
    """Write the page to ``operations/<id>/report.html`` and return where it is; None when that failed (logged)."""
    path = operation.path("report.html")
    try:
        prices = Prices.of(os.environ)
        summary = await make_summary(
            operation, result, prices=prices, memory_limit_mb=memory_limit_mb, work=work
        )
        page = await asyncio.to_thread(render_html, result, summary)
        await operation.storage.write(path, page.encode())
    except Exception as error:  # noqa: BLE001  whatever a report stumbles over, the cycle's own result stands
        problem = error.message if isinstance(error, S3GCError) else f"{type(error).__name__}: {error}"
        log.warning("the report of operation %s could not be written: %s", operation.id, problem)
        return None
    return f"{operation.storage.location.rstrip('/')}/{path}"


async def _fetched(operation: Operation, name: str, to: Path) -> bool:
    """Copy a file of the operation; False when it has none."""
    try:
        with to.open("wb") as file:
            async for chunk in operation.storage.stream(operation.path(name)):
                await asyncio.to_thread(file.write, chunk)
    except FileNotFoundError:
        return False
    return True
