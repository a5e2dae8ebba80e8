"""`s3gc demo`: the whole story on sample data, told while it happens.

A store inside the process, a SQLite database, and the real engine: a dry run, an execute with a row that comes back
in the middle of it, a restore. Every number that is shown is read from a result or from the store, none is written
here; where the story does not come out as told, the demo says so and fails.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s3gc.cli.options import Flags, Output
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.config import S3GCConfig
    from s3gc.demo.shop import Shop
    from s3gc.demo.store import DemoStore
    from s3gc.results import GCResult, Progress, RestoreResult

__all__ = ["command"]

#: Says that a folder is a demo's and may be replaced by the next one.
_MARK = ".s3gc-demo"


@dataclass(slots=True)
class Story:
    """What happened, for `story.json`: numbers from results and from the store."""

    objects: int = 0
    references: int = 0
    orphans_by_cause: dict[str, int] = field(default_factory=dict)
    dry_run: str = ""
    execute: str = ""
    late_key: str = ""
    late_key_is_back: bool = False
    deleted: int = 0
    restored: int = 0
    identical_after_restore: bool = False
    left_over: int = 0
    report: str = ""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@shared_command("none")
def command(
    flags: Flags,
    folder: Annotated[
        Path, typer.Option("--dir", help="Where to leave vault, database and report.", metavar="FOLDER")
    ] = Path("s3gc-demo"),
) -> None:
    """Show everything on sample data; needs no bucket, no database, no credentials.

    Runs a dry run, an execute and a restore on a small shop, and leaves a vault and a report to look at. Takes less
    than a minute and touches nothing outside of its folder.
    """
    from s3gc.cli.output import emit, form
    from s3gc.cli.runtime import run_async

    how = form(flags.output)
    _prepare(folder)
    story = run_async(lambda: _Demo(folder.resolve(), told=how is Output.TABLE).run())
    if how is not Output.TABLE:
        emit(asdict(story), how)
    if story.problems:
        raise typer.Exit(1)


def _prepare(folder: Path) -> None:
    """Make the folder anew; one that is not a demo's is never touched."""
    from s3gc.exceptions import ConfigurationError

    try:
        if folder.exists():
            if not folder.is_dir() or (any(folder.iterdir()) and not (folder / _MARK).exists()):
                raise ConfigurationError(f"{folder} is there and is not a demo's; choose another with --dir")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / _MARK).write_text("This folder was made by `s3gc demo`, and the next one replaces it.\n")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be used: {error.strerror or error}") from None


class _Demo:
    def __init__(self, folder: Path, *, told: bool) -> None:
        from s3gc.cli.output import console
        from s3gc.demo.shop import make_shop

        self.folder = folder
        self.told = told
        self.out = console()
        self.story = Story()
        self.shop: Shop = make_shop()
        self.before: dict[str, bytes] = {}
        self.began = time.monotonic()

    async def run(self) -> Story:
        from s3gc.demo.shop import policy_of
        from s3gc.demo.store import demo_store

        with demo_store() as store:
            self._chapter("A shop", "its database says which files it still uses")
            self._seed(store)
            config = policy_of(self.folder, store.endpoint)
            self._chapter("Dry run", "what no row references; nothing is deleted")
            planned = await self._cycle(config, "dry_run")
            await self._tell_plan(planned)
            self._chapter("Execute", "back up, verify, delete; a customer takes a picture back")
            done = await self._cycle(config, "execute", watch=_LateReference(self.shop, store, self.folder))
            self._tell_execute(done, store)
            self._chapter("Restore", "on second thoughts: everything shall come back")
            await self._tell_restore(config, done, store)
            self._chapter("What is left", "")
            await self._tell_end(config, done)
        return self.story

    # --- telling

    def _chapter(self, title: str, what: str) -> None:
        if self.told:
            from rich.rule import Rule
            from rich.text import Text

            self.out.print()
            heading = Text.assemble((title, "bold cyan"), (f"  {what}" if what else "", "dim"))
            self.out.print(Rule(heading, align="left", style="bright_black"))

    def _say(self, *parts: object) -> None:
        if self.told:
            from rich.text import Text

            line = Text.assemble("  ", *parts)  # type: ignore[arg-type]  # str or (str, style)
            self.out.print(line, soft_wrap=True)  # a command that is too long can still be copied

    def _expect(self, holds: bool, told: str, otherwise: str) -> None:
        """One turn of the story: either it is told, or it is a problem."""
        if holds:
            self._say(("✓ ", "green"), told)
        else:
            self.story.problems.append(otherwise)
            self._say(("✗ ", "red bold"), otherwise)

    # --- the chapters

    def _seed(self, store: DemoStore) -> None:
        from s3gc.demo.shop import BUCKET
        from s3gc.report.text import bytes_text, count

        self.shop.write_database(self.folder / "shop.db")
        store.make_bucket(BUCKET)
        store.put(BUCKET, self.shop.objects, datetime.now(UTC))
        self.before = {each.key: each.body for each in self.shop.objects}
        self.story.objects = len(self.before)
        size = bytes_text(sum(map(len, self.before.values())))
        rows = ", ".join(f"{count(len(rows))} {table}" for table, rows in self.shop.rows.items())
        self._say(
            (count(len(self.before)), "bold"), f" objects, {size}, in bucket {BUCKET} at {store.endpoint}"
        )
        self._say("SQLite with ", rows)
        self._say(("URLs of a CDN, JSON, HTML, Markdown and plain keys reference the objects", "dim"))

    async def _cycle(self, config: S3GCConfig, mode: str, watch: _LateReference | None = None) -> GCResult:
        from s3gc.cli.progress import reporting
        from s3gc.cli.runtime import watched
        from s3gc.cycle import run_gc_cycle
        from s3gc.state import initialize_gc_state, shutdown_gc_state

        config = config.with_updates(mode=mode)
        state = await initialize_gc_state(config)
        try:
            with reporting(quiet=not (self.told and watched())) as show:
                note = getattr(show, "note", self.out.print)

                def progress(now: Progress) -> None:
                    show(now)
                    if watch is not None and (did := watch(now)) and self.told:
                        from rich.text import Text

                        note(Text.assemble(("  ← ", "magenta bold"), (did, "magenta")))

                return await run_gc_cycle(config, state, progress=progress)
        finally:
            await shutdown_gc_state(state)

    async def _tell_plan(self, result: GCResult) -> None:
        from s3gc.cli.show import show_result

        self.story.dry_run = result.operation_id
        self.story.references = sum(column.references for column in result.coverage)
        planned = await self._planned(result)
        fates = {each.key: each.fate for each in self.shop.objects}
        causes = Counter(fates[key] for key in planned)
        self.story.orphans_by_cause = dict(causes)
        if self.told:
            self.out.print()
            show_result(_without_report(result))
            self.out.print()
        orphaned = {"replaced", "deleted", "abandoned", "trial"}
        wanted = {key for key, fate in fates.items() if fate in orphaned}
        reasons = {
            "replaced": "replaced pictures, with their thumbnails",
            "deleted": "pictures of deleted products",
            "abandoned": "uploads that were never finished",
            "trial": "left by an import that somebody tried out",
        }
        for cause, number in causes.most_common():
            self._say((f"{number:>4} ", "bold"), reasons.get(cause, cause))
        self._expect(
            planned == wanted,
            "exactly the orphans are planned, and nothing that a row references",
            f"the plan differs from the orphans: {len(planned - wanted)} too many, {len(wanted - planned)} missed",
        )
        self._expect(
            result.missing_objects == self.shop.missing,
            f"{result.missing_objects} invoices name a file that is not there: reported, never acted on",
            f"{result.missing_objects} missing objects were found, {self.shop.missing} were made",
        )

    async def _planned(self, result: GCResult) -> set[str]:
        import pyarrow.parquet as pq

        path = self.folder / "vault" / "operations" / result.operation_id / "plan.parquet"
        return set(pq.read_table(path, columns=["key"]).column("key").to_pylist())

    def _tell_execute(self, result: GCResult, store: DemoStore) -> None:
        from s3gc.cli.show import show_result
        from s3gc.demo.shop import BUCKET

        self.story.execute = result.operation_id
        self.story.deleted = result.deleted_count
        if self.told:
            self.out.print()
            show_result(_without_report(result), coverage=False)  # it has not changed since the dry run
            self.out.print()
        late = result.late_reference_keys
        self.story.late_key = late[0] if late else ""
        back = [key for key in late if store.body(BUCKET, key) == self.before[key]]
        self.story.late_key_is_back = bool(late) and back == late
        self._expect(
            self.story.late_key_is_back,
            f"{self.story.late_key}: deleted, then referenced, and back already",
            "the reference that came during the sweep did not come through",
        )
        if late:
            self._say(("  something late makes the outcome PartiallyFailed: a person should know", "dim"))
        referenced = {
            each.key for each in self.shop.objects if each.fate in ("referenced", "excluded", "young")
        }
        lost = referenced - store.keys(BUCKET)
        self._expect(
            not lost,
            f"all {len(referenced):,} other objects are still there",
            f"{len(lost)} objects that must stay are gone",
        )

    async def _tell_restore(self, config: S3GCConfig, done: GCResult, store: DemoStore) -> None:
        from s3gc.demo.shop import BUCKET

        would = await self._restore(config, done, dry_run=True)
        self._say(f"a dry run first: {would.restored_count:,} objects would come back")
        result = await self._restore(config, done, dry_run=False)
        self.story.restored = result.restored_count
        if self.told:
            from s3gc.cli.show import show_restore

            show_restore(result)
        now = store.keys(BUCKET)
        self.story.left_over = len({key for key in now if not key.startswith(".s3gc/")} - set(self.before))
        same = sum(store.body(BUCKET, key) == body for key, body in self.before.items())
        self.story.identical_after_restore = same == len(self.before)
        self._expect(
            self.story.identical_after_restore,
            f"all {same:,} objects are there again, byte for byte",
            f"{len(self.before) - same} objects are not what they were",
        )

    async def _restore(self, config: S3GCConfig, done: GCResult, *, dry_run: bool) -> RestoreResult:
        import aiosqlite

        from s3gc.backup.restore import restore_operation
        from s3gc.cli.progress import reporting
        from s3gc.cli.runtime import watched
        from s3gc.state import initialize_gc_state, shutdown_gc_state

        state = await initialize_gc_state(config)
        try:
            async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
                with reporting(quiet=not (self.told and watched()) or dry_run) as progress:
                    return await restore_operation(
                        config, state, vault_db, done.operation_id, dry_run=dry_run, progress=progress
                    )
        finally:
            await shutdown_gc_state(state)

    async def _tell_end(self, config: S3GCConfig, done: GCResult) -> None:
        from s3gc.report.text import duration

        operations = self.folder / "vault" / "operations"
        report = self.folder / "report.html"
        shutil.copyfile(operations / done.operation_id / "report.html", report)
        dry = self.folder / "report-dry-run.html"
        shutil.copyfile(operations / self.story.dry_run / "report.html", dry)
        self.story.report = str(report)
        self.story.seconds = round(time.monotonic() - self.began, 1)
        (self.folder / "story.json").write_text(json.dumps(asdict(self.story), indent=1) + "\n")
        shown = _shown(self.folder)
        self._say("the report      ", (f"{shown}/report.html", "bold"), "  (open it in a browser)")
        self._say("the vault       ", f"{shown}/vault")
        self._say("look around     ", f"{_program()} operations --vault {shown}/vault")
        self._say("and read it all ", f"{_program()} vault verify --vault {shown}/vault")
        self._say(("done in " + duration(self.story.seconds), "dim"))


def _without_report(result: GCResult) -> GCResult:
    """Its report is told of at the end, under the name that it has there."""
    return result.model_copy(update={"report": None})


def _program() -> str:
    """How to call s3gc again from here: its name, or where it is when no search path leads there."""
    called = Path(sys.argv[0])
    if called.name != "s3gc" or shutil.which("s3gc") == str(called.resolve()):
        return "s3gc"
    return _shown(called.resolve())


def _shown(folder: Path) -> str:
    """The folder as a person would type it."""
    here = Path.cwd()
    return f"./{folder.relative_to(here)}" if folder.is_relative_to(here) and folder != here else str(folder)


class _LateReference:
    """A customer who takes an old picture back just after it was deleted: one UPDATE, while the sweep goes on."""

    def __init__(self, shop: Shop, store: DemoStore, folder: Path) -> None:
        self._shop, self._store, self._folder = shop, store, folder
        self._done = False

    def __call__(self, progress: Progress) -> str:
        """What happened in the shop just now, in words; empty most of the time."""
        from s3gc.demo.shop import BUCKET, CDN

        if self._done or not progress.deleted:
            return ""
        present = self._store.keys(BUCKET)
        gone = next((key for key in self._shop.late_keys if key not in present), None)
        if gone is None:
            return ""
        self._done = True
        with closing(sqlite3.connect(self._folder / "shop.db", timeout=5)) as database:
            user = int(gone.split("/")[1])
            database.execute("UPDATE users SET avatar_url = ? WHERE id = ?", (f"{CDN}/{gone}", user))
            database.commit()
        return f"meanwhile in the shop: user {user} takes {gone} back"
