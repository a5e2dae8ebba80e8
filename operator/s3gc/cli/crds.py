"""`s3gc crds`: the CustomResourceDefinitions that this version of s3gc works with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("none", output=None)
def command(
    flags: Flags,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Write bucketgcs.yaml and gcrestores.yaml there.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions of BucketGC and GCRestore.

    For kubectl: s3gc crds | kubectl apply --server-side -f -
    """
    from s3gc.controller.crd import definitions

    files = definitions()
    if folder is None:
        typer.echo("---\n".join(files.values()), nl=False)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        typer.echo(str(folder / name))
