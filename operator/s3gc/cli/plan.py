"""`s3gc plan`: what a cycle would delete, key by key, without deleting anything."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.results import GCResult
    from s3gc.vault.records import PlannedObject

__all__ = ["command"]


@shared_command("cycle", long_running=True)
def command(
    flags: Flags,
    operation_id: Annotated[
        str | None,
        typer.Option(help="Show the plan of an earlier operation instead.", metavar="ID", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many keys to show.", min=0)] = 20,
    after: Annotated[
        str | None, typer.Option(help="Begin after this key.", metavar="KEY", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Show every key.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make a plan and show it; nothing is deleted.

    The plan and its report stay in the vault. With --operation-id the stored plan of that operation is shown.
    """
    from s3gc.cli.engine import exit_code_of
    from s3gc.cli.output import form
    from s3gc.cli.runtime import run_async
    from s3gc.cli.settings import cycle_policy, vault_policy
    from s3gc.cli.show import show_result

    config = vault_policy(flags) if operation_id else cycle_policy(flags).with_updates(mode="dry_run")
    how = form(flags.output, watched_only=True)
    with tempfile.TemporaryDirectory(prefix="s3gc-plan-") as folder:
        local = Path(folder) / "plan.parquet"
        result = run_async(lambda: _fetched(config, operation_id, local, quiet))
        page = _Page(local if local.exists() else None, after, None if all_ else limit)
        if how is Output.TABLE:
            if not operation_id:
                show_result(result, config, again=flags.again)
            _show(page)
        else:
            _emit(result, page, how)
    if not operation_id:
        raise typer.Exit(exit_code_of(result.outcome))


async def _fetched(config: S3GCConfig, operation_id: str | None, local: Path, quiet: bool) -> GCResult:
    """The result of the operation meant, its plan copied to `local` when it has one."""
    from s3gc.cli.engine import find_operation, open_vault, run_cycle
    from s3gc.exceptions import VaultError

    made = None if operation_id else await run_cycle(config, quiet=quiet)
    async with open_vault(config) as vault:
        operation, _ = await find_operation(vault, made.operation_id if made else operation_id, of=config)
        result = made or await operation.result()
        if result is None:
            raise VaultError(
                f"operation {operation.id} left no result; it was cut off before its plan was made"
            )
        if await operation.plan_exists():
            await operation.fetch_plan(local)
    return result


class _Page:
    """At most `limit` objects of a plan after a key, read as they are printed: a plan may have millions."""

    def __init__(self, path: Path | None, after: str | None, limit: int | None) -> None:
        import pyarrow.parquet as pq

        self._path, self._after, self._limit = path, after, limit
        self.total = pq.read_metadata(path).num_rows if path else 0
        self.shown = 0
        self.last: str | None = None

    def __iter__(self) -> Iterator[PlannedObject]:
        from s3gc.plan.planfile import read_plan

        if self._path is None or self._limit == 0:
            return
        for batch in read_plan(self._path, start_after=self._after):
            for row in batch:
                self.shown, self.last = self.shown + 1, row.key
                yield row
                if self._limit is not None and self.shown >= self._limit:
                    return

    @property
    def next_after(self) -> str | None:
        """The key to go on after, when the page was cut by its limit."""
        return self.last if self._limit is not None and self.shown == self._limit < self.total else None


def _emit(result: GCResult, page: _Page, how: Output) -> None:
    head = {
        "operation_id": result.operation_id,
        "outcome": result.outcome.value,
        "plan_digest": result.plan_digest,
        "objects": page.total,
        "bytes": result.reclaimable_bytes,
    }
    if how is Output.YAML:
        import yaml

        def write(value: Any) -> None:
            sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))

        write(head)
        sys.stdout.write("keys:\n" if page.total else "keys: []\n")
        for row in page:
            write([_plain(row)])
        write({"after": page.next_after})
        return
    sys.stdout.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "keys": [')
    for index, row in enumerate(page):
        sys.stdout.write((", " if index else "") + json.dumps(_plain(row), ensure_ascii=False))
    sys.stdout.write(f'], "after": {json.dumps(page.next_after, ensure_ascii=False)}}}\n')


def _plain(row: PlannedObject) -> dict[str, Any]:
    return {
        "key": row.key,
        "size": row.size,
        "etag": row.etag,
        "last_modified": row.last_modified.isoformat(),
        "storage_class": row.storage_class,
        "first_unreferenced": row.first_unreferenced.isoformat() if row.first_unreferenced else None,
    }


def _show(page: _Page) -> None:
    from rich.text import Text

    from s3gc.cli.output import console, table
    from s3gc.cli.show import when
    from s3gc.report.text import bytes_text, count, visible

    out = console()
    out.print()
    if not page.total:
        out.print("the plan is empty")
        return
    rows = iter(page)
    while part := list(
        islice(rows, 1000)
    ):  # rich lays a table out as a whole; a long one is printed in parts
        made = table(("key", "key"), ("size", "right"), ("modified", "right"))
        for row in part:
            made.add_row(
                visible(row.key, max(20, out.width - 26)), bytes_text(row.size), when(row.last_modified)
            )
        out.print(made)
    if page.shown < page.total:
        out.print(Text(f"{count(page.shown)} of {count(page.total)}", style="dim"))
    if page.next_after is not None:
        out.print(
            Text.assemble(("→ ", "cyan bold"), "more: --limit N, --all, or --after with the last key shown")
        )
