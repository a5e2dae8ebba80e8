"""`s3gc report`: the page that a cycle left, made anew from the vault."""

from __future__ import annotations

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("vault")
def command(flags: Flags) -> None:
    """Write the report of an operation."""
    raise NotImplementedError
