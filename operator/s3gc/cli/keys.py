"""`s3gc keys`: which keys a value could mean, by the very rules that a cycle uses."""

from __future__ import annotations

from typing import Annotated

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("none")
def command(
    flags: Flags,
    values: Annotated[
        list[str], typer.Argument(help="Values as they stand in a column.", metavar="-- VALUE…")
    ],
    bucket: Annotated[str, typer.Option("--bucket", "-b", help="The bucket.", metavar="NAME")],
    base_url: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the bucket is served; repeatable.", metavar="URL=KEYPREFIX", show_default=False
        ),
    ] = None,
    foreign_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A host that is never this bucket; repeatable.", metavar="HOST", show_default=False
        ),
    ] = None,
    key_prefix: Annotated[
        list[str] | None,
        typer.Option(help="Put before every key as well; repeatable.", metavar="PREFIX", show_default=False),
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(help="The store's address, if it is not AWS.", metavar="URL", show_default=False),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="How the column is read.", metavar="auto|key|url|json|text|prefix")
    ] = "auto",
) -> None:
    """Show which keys a value could mean.

    A reference is read generously: every key that the value could name is kept. Use this to see why an
    object is kept, or whether a column and its format are understood.
    """
    from pydantic import ValidationError

    from s3gc.builder import create_config
    from s3gc.cli.output import console, emit, form
    from s3gc.config import ColumnConfig, describe_errors
    from s3gc.exceptions import ConfigurationError
    from s3gc.names import parse_base_url
    from s3gc.references.extract import extract
    from s3gc.references.rules import reference_rules
    from s3gc.report.text import visible

    try:
        column = ColumnConfig(name="value", format=format_, key_prefixes=tuple(key_prefix or ()))
        base_urls = [parse_base_url(entry) for entry in base_url or ()]
    except ValidationError as error:
        raise describe_errors(error) from None
    except ValueError as error:
        raise ConfigurationError(f"--base-url {error}") from None
    config = create_config(
        bucket, base_urls=base_urls, foreign_hosts=foreign_host or (), endpoint_url=endpoint_url
    )
    rules = reference_rules(config, config.endpoint_url, key_prefixes=column.key_prefixes)
    keys: set[str] = set()
    prefixes: set[str] = set()
    for value in values:
        found = extract(value, column.format, rules)
        keys |= found.keys
        prefixes |= found.prefixes
    how = form(flags.output)
    if how is not Output.TABLE:
        emit({"keys": sorted(keys)}, how)
        return
    out = console()
    for key in sorted(keys):
        out.print(visible(key), soft_wrap=True)
    for prefix in sorted(prefixes):
        out.print(f"{visible(prefix)}  (everything under it)", soft_wrap=True)
    if not keys and not prefixes:
        console(stderr=True).print("no key: the value names nothing in this bucket", style="dim")
