"""`s3gc report`: the page that a cycle left, made anew from the vault."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.report.prices import Prices

__all__ = ["command"]


class Form(StrEnum):
    HTML = "html"
    JSON = "json"
    YAML = "yaml"


@shared_command("vault", output=None)
def command(
    flags: Flags,
    operation_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="Its id, the end of it, or latest (default).", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where to write it; - for standard output.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Form, typer.Option("--output", help="The page, or its numbers.", metavar="html|json|yaml")
    ] = Form.HTML,
    price: Annotated[
        list[str] | None,
        typer.Option(
            help="Dollars for a GiB and month; repeatable. Default: Amazon's list prices.",
            metavar="CLASS=DOLLARS",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the report of an operation: what went or would go, coverage, guards, samples, what it saves.

    One HTML file without anything outside of itself. With --output json or yaml the same numbers.
    """
    from s3gc.cli.output import console, emit
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import vault_policy
    from s3gc.report.prices import Prices

    config = vault_policy(flags)
    prices = Prices.of(os.environ, price or ())
    wanted, page, numbers = run_async(lambda: _report(config, operation_id, prices, html=output is Form.HTML))
    if output is not Form.HTML:
        from s3gc.cli.options import Output

        emit(numbers, Output(output.value))
        return
    if out is not None and str(out) == "-":
        sys.stdout.write(page)
        return
    target = out or Path(f"s3gc-report-{wanted}.html")
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        from s3gc.exceptions import ConfigurationError

        raise ConfigurationError(
            f"the report cannot be written to {target}: {error.strerror or error}"
        ) from None
    console().print(str(target), soft_wrap=True)


async def _report(
    config: S3GCConfig, wanted: str | None, prices: Prices, *, html: bool
) -> tuple[str, str, dict[str, Any]]:
    from dataclasses import asdict

    from s3gc.cli.engine import find_operation, open_vault
    from s3gc.exceptions import VaultError
    from s3gc.report.html import render_html
    from s3gc.report.write import make_summary

    async with open_vault(config) as vault:
        operation, _ = await find_operation(vault, wanted, of=config)
        result = await operation.result()
        if result is None:
            raise VaultError(
                f"operation {operation.id} was cut off and left no result; there is nothing to report"
            )
        summary = await make_summary(operation, result, prices=prices, memory_limit_mb=config.memory_limit_mb)
    if html:
        return operation.id, render_html(result, summary), {}
    numbers = _plain({"result": result.model_dump(mode="json"), "summary": asdict(summary)})
    return operation.id, "", numbers


def _plain(value: Any) -> Any:
    """Times as ISO 8601, tuples as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value
