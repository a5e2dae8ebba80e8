"""`s3gc restore`: bring objects back, all of an operation or some of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import RestoreResult
    from s3gc.state import GCState

__all__ = ["command"]


@shared_command("bucket", long_running=True)
def command(
    flags: Flags,
    operation_id: Annotated[
        str | None,
        typer.Argument(metavar="[OPERATION]", help="Its id, or the end of it.", show_default=False),
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="The newest operation that deleted anything.")
    ] = False,
    key: Annotated[
        list[str] | None, typer.Option(help="Only this key; repeatable.", metavar="KEY", show_default=False)
    ] = None,
    prefix: Annotated[
        list[str] | None,
        typer.Option(help="Only keys with this prefix; repeatable.", metavar="PREFIX", show_default=False),
    ] = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(
            help="Only keys like this, * for anything; repeatable.", metavar="GLOB", show_default=False
        ),
    ] = None,
    to_bucket: Annotated[
        str | None, typer.Option(help="Restore into another bucket.", metavar="NAME", show_default=False)
    ] = None,
    to_prefix: Annotated[
        str | None,
        typer.Option(help="Put this before every restored key.", metavar="PREFIX", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-dry-run", help="Only say what would come back.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there now, after backing it up.")
    ] = False,
    record: Annotated[
        str | None,
        typer.Option(
            help="A name for this restore: asked again under it, it does nothing more.",
            metavar="NAME",
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
    """Bring deleted objects back, with their metadata, tags and storage class.

    Without --no-dry-run nothing is changed. What is there now is never overwritten unless --overwrite is
    given. A restored key counts as referenced for restore_hold_days. It can be repeated: what is back is
    left alone.
    """
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import bucket_policy, until_the_jobs_end
    from s3gc.cli.show import show_restore
    from s3gc.cli.termination import last_words
    from s3gc.exceptions import ConfigurationError, RestoreError

    with last_words(termination_log) as words:
        if (operation_id is None) != latest:
            raise ConfigurationError("give an operation's id, or --latest; `s3gc operations` lists them")
        config = until_the_jobs_end(bucket_policy(flags))
        wanted = _Selection(
            operation_id=operation_id,
            keys=key or None,
            prefixes=prefix or None,
            globs=glob or None,
            to_bucket=to_bucket,
            to_prefix=to_prefix,
            dry_run=dry_run,
            overwrite=overwrite,
        )
        result = run_async(lambda: _restore(config, wanted, record, quiet))
        words.restore(result)
    how = form(flags.output, watched_only=True)
    if how is Output.TABLE:
        show_restore(result)
    else:
        emit(result.model_dump(mode="json"), how)
    if result.failed_count or result.errors:
        raise typer.Exit(RestoreError.exit_code)


@dataclass(frozen=True, slots=True)
class _Selection:
    """What a person wants back, and where."""

    operation_id: str | None
    keys: list[str] | None
    prefixes: list[str] | None
    globs: list[str] | None
    to_bucket: str | None
    to_prefix: str | None
    dry_run: bool
    overwrite: bool


async def _restore(
    config: S3GCConfig, wanted: _Selection, record_name: str | None, quiet: bool
) -> RestoreResult:
    import asyncio

    from s3gc.cli.engine import find_operation_id
    from s3gc.exceptions import ConfigurationError, RestoreError
    from s3gc.state import initialize_gc_state, shutdown_gc_state
    from s3gc.vault.restores import RestoreRecord

    state = await initialize_gc_state(config, create=False)
    try:
        vault = state["vault"]
        record = None
        begun: str | None = None
        if record_name is not None:
            record = await RestoreRecord.open(vault.storage, record_name, asdict(wanted))
            if record.result is not None:
                return record.result
            begun = record.operation_id
        try:
            operation_id = await find_operation_id(
                vault, wanted.operation_id or begun, of=config, with_deletions=wanted.operation_id is None
            )
        except ConfigurationError as error:
            raise RestoreError(error.message, details=error.details) from None
        if record is not None:
            await record.begin(operation_id)
        try:
            async with asyncio.timeout(config.deadline_seconds) as deadline:
                result = await _run(config, state, operation_id, wanted, quiet)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise RestoreError(
                f"the restore of {operation_id} was ended at its deadline; what is back stays, and another run "
                "brings back the rest"
            ) from None
        if record is not None:
            await record.end(result)
        return result
    finally:
        await shutdown_gc_state(state)


async def _run(
    config: S3GCConfig, state: GCState, operation_id: str, wanted: _Selection, quiet: bool
) -> RestoreResult:
    import aiosqlite

    from s3gc.backup.restore import restore_operation
    from s3gc.cli.progress import reporting

    async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
        with reporting(quiet=quiet) as progress:
            return await restore_operation(
                config,
                state,
                vault_db,
                operation_id,
                dry_run=wanted.dry_run,
                skip_existing=not wanted.overwrite,
                keys=wanted.keys,
                prefixes=wanted.prefixes,
                globs=wanted.globs,
                target_bucket=wanted.to_bucket,
                target_prefix=wanted.to_prefix,
                progress=progress,
            )
