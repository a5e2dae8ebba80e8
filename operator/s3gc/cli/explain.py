"""`s3gc explain`: why one object is kept, or would go."""

from __future__ import annotations

from typing import Annotated

import typer

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("cycle")
def command(
    flags: Flags,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key, exactly.")],
) -> None:
    """Say why one object is kept or would go: which row references it, its age, its maturity, its holds."""
    raise NotImplementedError
