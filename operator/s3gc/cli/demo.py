"""`s3gc demo`."""

from __future__ import annotations

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("none")
def command(flags: Flags) -> None:
    """Show everything on sample data: needs nothing, touches nothing but ./s3gc-demo."""
    raise NotImplementedError
