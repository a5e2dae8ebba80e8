"""`s3gc run`: one cycle, as the policy says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s3gc.cli.options import Flags, Mode, Output
from s3gc.cli.options import command as shared_command

__all__ = ["command"]


@shared_command("cycle", long_running=True)
def command(
    flags: Flags,
    mode: Annotated[
        Mode | None,
        typer.Option(help="dry_run, audit_only or execute, whatever the policy says.", metavar="MODE"),
    ] = None,
    operation_id: Annotated[
        str | None,
        typer.Option(
            help="Resume: an approved plan, or one that was cut off.", metavar="ID", show_default=False
        ),
    ] = None,
    approve: Annotated[
        str | None,
        typer.Option(
            help="Approve the plan with this digest, and resume its operation.",
            metavar="DIGEST",
            show_default=False,
        ),
    ] = None,
    termination_log: Annotated[
        Path | None,
        typer.Option(
            help="Also write the result in short, at most 4 KiB, to this file.",
            metavar="FILE",
            envvar="S3GC_TERMINATION_LOG",
            show_default=False,
            show_envvar=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Run one garbage collection cycle.

    Ends with 0 when it succeeded or waits for approval, 3 when a guard refused, 4 when a part failed, 143
    when it was stopped, and with the code of docs/cli.md for an error before the sweep.
    """
    from s3gc.cli.engine import exit_code_of, run_cycle
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import cycle_policy, until_the_jobs_end
    from s3gc.cli.show import show_result
    from s3gc.cli.termination import last_words
    from s3gc.exceptions import ConfigurationError

    with last_words(termination_log) as words:
        if approve is not None and operation_id is not None:
            raise ConfigurationError("give --approve, which finds the operation, or --operation-id")
        config = until_the_jobs_end(cycle_policy(flags))
        if mode is not None:
            config = config.with_updates(mode=mode.value)
        result = run_async(
            lambda: run_cycle(config, operation_id=operation_id, approve=approve, quiet=quiet, words=words)
        )
    how = form(flags.output, watched_only=True)
    if how is Output.TABLE:
        show_result(result, config, again=flags.again)
    else:
        emit(result.model_dump(mode="json"), how)
    raise typer.Exit(exit_code_of(result.outcome))
