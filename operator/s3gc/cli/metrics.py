"""`s3gc metrics`: what the vault remembers in numbers, for people and for Prometheus."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import GCMetrics

__all__ = ["command"]


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PROMETHEUS = "prometheus"


@shared_command("bucket", output=None)
def command(
    flags: Flags,
    output: Annotated[
        Form, typer.Option("--output", "-o", help="How to print.", metavar="table|json|yaml|prometheus")
    ] = Form.TABLE,
) -> None:
    """Show statistics over every operation that the vault remembers."""
    from s3gc.cli.output import console, emit, grid
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import bucket_policy
    from s3gc.cli.show import when
    from s3gc.report.prometheus import prometheus_text
    from s3gc.report.text import bytes_text, count

    config = bucket_policy(flags)
    metrics = run_async(lambda: _metrics(config))
    if output is Form.PROMETHEUS:
        typer.echo(prometheus_text(metrics, config.policy_name, config.bucket), nl=False)
        return
    if output is not Form.TABLE:
        emit(metrics.model_dump(mode="json"), Output(output.value))
        return
    facts = grid()
    facts.add_row("cycles", count(metrics.total_runs))
    facts.add_row("last cycle", when(metrics.last_run_at))
    facts.add_row(
        "deleted", f"{count(metrics.total_deleted)} objects, {bytes_text(metrics.reclaimed_bytes)} freed"
    )
    facts.add_row("backed up", f"{count(metrics.total_backed_up)} objects")
    facts.add_row("restored", f"{count(metrics.total_restored)} objects")
    ratio = f", compressed {metrics.avg_compression_ratio:.1f} : 1" if metrics.avg_compression_ratio else ""
    facts.add_row("vault", f"{bytes_text(metrics.vault_size_bytes)}{ratio}")
    if metrics.last_error:
        facts.add_row("last error", metrics.last_error)
    console().print(facts)


async def _metrics(config: S3GCConfig) -> GCMetrics:
    from s3gc.state import get_metrics, initialize_gc_state, shutdown_gc_state

    state = await initialize_gc_state(config, create=False)
    try:
        return await get_metrics(config, state)
    finally:
        await shutdown_gc_state(state)
