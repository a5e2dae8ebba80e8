"""The list of commands, and the beginning and end of the process."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["COMMANDS", "app", "run"]

#: In the order of `s3gc --help`. Each is a module of `s3gc.cli` that offers `command`, or `app` for a group.
COMMANDS = (
    "run",
    "plan",
    "approve",
    "explain",
    "doctor",
    "restore",
    "operations",
    "report",
    "vault",
    "metrics",
    "keys",
    "operator",
    "crds",
    "demo",
)

_HELP = """The garbage collector for S3 buckets whose truth is in a database.

It finds the objects that no row references, backs them up, deletes them, and can bring every one back.
Nothing is deleted unless the policy's mode is execute.

Begin with [bold]s3gc demo[/bold], which needs nothing, or
[bold]s3gc plan --bucket my-bucket --tables users:avatar_url[/bold] with DATABASE_URL set.
"""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"s3gc {version('s3gc')}")
        except PackageNotFoundError:  # run from a source tree that nobody installed
            typer.echo("s3gc (not installed)")
        raise typer.Exit


class _InOrder(TyperGroup):
    """Lists groups among the commands, not after them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def app() -> typer.Typer:
    """Make the application with every command."""
    root = typer.Typer(
        name="s3gc",
        cls=_InOrder,
        help=_HELP,
        rich_markup_mode="rich",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @root.callback()
    def _root(
        version: Annotated[
            bool,
            typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end."),
        ] = False,
    ) -> None: ...

    for name in COMMANDS:
        module = importlib.import_module(f"s3gc.cli.{name}")
        if hasattr(module, "app"):
            root.add_typer(module.app, name=name)
        else:
            root.command(name, no_args_is_help=False)(module.command)
    return root


def run() -> None:
    """Run the command line; never returns."""
    try:
        app()()
    except BrokenPipeError:
        # `s3gc … | head` closes our output: that is no error, and the interpreter must not flush into it
        # again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
