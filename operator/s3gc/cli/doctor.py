"""`s3gc doctor`: what each database allows, what a cycle would use, and what to grant for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.cycle.standing import SourceStanding

__all__ = ["command"]


@shared_command("cycle")
def command(flags: Flags) -> None:
    """Say, per database, how deletions can be verified there, and what to grant for more.

    Asks the databases' catalogs and settings; changes nothing, makes no slot. Ends with 2 when a database of the policy
    could not be used in mode execute.
    """
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import cycle_policy
    from s3gc.cycle.standing import plain, stand

    config = cycle_policy(flags)
    found = run_async(lambda: stand(config))
    how = form(flags.output)
    if how is Output.TABLE:
        for one in found:
            _show(one)
    else:
        emit(plain(found), how)
    if not all(one.can_execute for one in found):
        raise typer.Exit(2)


def _show(found: SourceStanding) -> None:
    from rich.text import Text

    from s3gc.cli.output import console, grid
    from s3gc.report.text import visible

    out = console()
    word, colour = ("ready", "green") if found.can_execute else ("not ready", "red")
    out.print(
        Text.assemble(
            (f" {word} ", f"bold reverse {colour}"), (f"  {found.name}", "bold"), f"  {found.location}"
        )
    )
    lines = grid()
    if found.problem:
        lines.add_row("problem", visible(found.problem))
    if found.used is not None:
        because = f" ({visible(found.because)})" if found.because else ""
        lines.add_row("verifies by", f"{found.used}{because}")
    elif found.because:
        lines.add_row("verifies by", visible(found.because))
    for level in found.levels:
        words = ["possible"] if level.possible else [f"not possible: {visible(why)}" for why in level.missing]
        words += [f"not {label}: {visible(why)}" for label, why in level.partly.items()]
        for number, sentence in enumerate(words):
            lines.add_row(str(level.level) if not number else "", sentence)
    if found.barrier:
        lines.add_row("open writers", f"seen by {found.barrier.replace('_', ' ')}")
    elif found.barrier_missing:
        lines.add_row("open writers", f"cannot be seen: {visible(found.barrier_missing)}")
    for warning in found.warnings:
        lines.add_row("note", visible(warning))
    if found.next_step:
        lines.add_row("for more", visible(found.next_step))
    out.print(lines)
    out.print()
