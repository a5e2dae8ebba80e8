"""A cycle while it runs: a live line for a person, JSON lines for a log, nothing where a result is all that
counts.

Both are callables that take `results.Progress`, so the engine knows neither. They are called often and must
be cheap: the terminal draws ten times a second at most, the log gets a line a phase and one every few
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from s3gc.cli.runtime import log_line, watched
from s3gc.report.text import count, duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from s3gc.results import Progress

__all__ = ["counting", "reporting"]

#: How often a log gets a line while a phase lasts. The operator reads the last one every 30 s.
LOG_EVERY_SECONDS = 10.0

_WORDS = {
    "Preflight": ("Checking store and databases", "Checked store and databases"),
    "Recovering": ("Recovering", "Recovered"),
    "Listing": ("Listing objects", "Listed objects"),
    "Reading": ("Reading references", "Read references"),
    "Joining": ("Joining", "Joined"),
    "Healing": ("Healing", "Healed"),
    "Planning": ("Planning", "Planned"),
    "BackingUp": ("Backing up", "Backed up"),
    "Verifying": ("Verifying", "Verified"),
    "Deleting": ("Deleting", "Deleted"),
    "Checking": ("Waiting for open writers, checking", "Checked every deletion"),
    "Purging": ("Purging what earlier cycles hid", "Purged what earlier cycles hid"),
    "Finishing": ("Finishing", "Finished"),
    "Restoring": ("Restoring", "Restored"),
}
#: These take turns within the sweep; to a person they are one phase with several numbers.
_SWEEP = frozenset({"BackingUp", "Verifying", "Deleting"})


@contextmanager
def reporting(*, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Show progress while the block runs: live on a terminal, as JSON lines elsewhere."""
    if quiet:
        yield lambda progress: None
    elif watched():
        with _Terminal() as terminal:
            yield terminal
    else:
        yield _Log()


@contextmanager
def counting(doing: str, what: str) -> Iterator[Callable[[int], None]]:
    """Show a count that grows while the block runs: live on a terminal, as JSON lines elsewhere."""
    if not watched():
        last = time.monotonic()

        def log(number: int) -> None:
            nonlocal last
            if time.monotonic() - last >= LOG_EVERY_SECONDS:
                last = time.monotonic()
                log_line("info", "progress", phase=doing, count=number)

        yield log
        return
    from s3gc.cli.output import console

    with console(stderr=True).status(f"{doing} …") as status:
        yield lambda number: status.update(f"{doing}  {count(number)} {what}")


class _Log:
    def __init__(self) -> None:
        self._phase = ""
        self._last = 0.0
        self._reached: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        progress = self._reached = _with_what_was_reached(progress, self._reached)
        if progress.phase == self._phase and now - self._last < LOG_EVERY_SECONDS:
            return
        if progress.phase in _SWEEP and self._phase in _SWEEP and now - self._last < LOG_EVERY_SECONDS:
            return
        self._phase, self._last = progress.phase, now
        log_line(
            "info",
            "progress",
            phase=progress.phase,
            listed=progress.listed,
            references=progress.references,
            candidates=progress.candidates,
            backedUp=progress.backed_up,
            deleted=progress.deleted,
            restored=progress.restored,
            total=progress.total,
            operationID=progress.operation_id or None,
        )


def _with_what_was_reached(progress: Progress, before: Progress | None) -> Progress:
    """The counts of earlier phases beside this one's: the last line alone tells how much was listed, too.

    A purge counts anew what it removes, which earlier cycles had deleted.
    """
    if before is None:
        return progress
    purges = progress.phase == "Purging"
    return replace(
        progress,
        listed=max(progress.listed, before.listed),
        references=max(progress.references, before.references),
        candidates=max(progress.candidates, before.candidates),
        backed_up=max(progress.backed_up, before.backed_up),
        deleted=progress.deleted if purges else max(progress.deleted, before.deleted),
    )


class _Terminal:
    """Finished phases as ticked lines, the running one as a spinner with its numbers."""

    def __init__(self) -> None:
        from rich.live import Live

        from s3gc.cli.output import console

        self._current: Progress | None = None
        self._began = self._spinner_began = time.monotonic()
        self._console = console(stderr=True)
        self._live: Live = Live(  # draws at once: everything that a line needs stands above
            console=self._console, refresh_per_second=10, transient=True, get_renderable=self._line
        )

    def __enter__(self) -> _Terminal:
        self._live.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._current is not None:
            self._finish(failed=kind is not None)
        self._live.stop()

    def __call__(self, progress: Progress) -> None:
        before = self._current
        same = before is not None and (
            before.phase == progress.phase or (before.phase in _SWEEP and progress.phase in _SWEEP)
        )
        if before is not None and not same:
            self._finish()
        if not same:
            self._began = time.monotonic()
        self._current = progress

    def note(self, line: Text) -> None:
        """Say something above the line that is running."""
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def _finish(self, *, failed: bool = False) -> None:
        from rich.text import Text

        current = self._current
        assert current is not None  # noqa: S101  both callers have just looked
        seconds = time.monotonic() - self._began
        phase = "Deleting" if current.phase in _SWEEP else current.phase
        words = _WORDS.get(phase, (phase, phase))
        mark = ("✗ ", "red") if failed else ("✓ ", "green")
        line = Text.assemble(mark, words[0] if failed else words[1], (_numbers(current), "bold"))
        if seconds >= 0.1:
            line.append(f"  {duration(seconds)}", "dim")
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def _line(self) -> Text:
        from rich.text import Text

        current = self._current
        now = time.monotonic()
        frame = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int((now - self._spinner_began) * 10) % 10]
        if current is None:
            return Text(f"{frame} Starting", style="cyan")
        line = Text.assemble((f"{frame} ", "cyan"), _WORDS.get(current.phase, (current.phase,))[0])
        line.append(_numbers(current), "bold")
        if current.total and current.phase in _SWEEP | {"Restoring"}:
            done = current.restored if current.phase == "Restoring" else current.deleted
            filled = round(20 * min(1.0, done / current.total))
            line.append("  " + "━" * filled, "green")
            line.append("━" * (20 - filled), "bright_black")
            line.append(f" {100 * done / current.total:.0f} %")
        line.append(f"  {duration(now - self._began)}", "dim")
        line.no_wrap = True
        line.overflow = "ellipsis"
        return line


def _numbers(progress: Progress) -> str:
    phase = progress.phase
    if phase == "Listing" and progress.listed:
        return f"  {count(progress.listed)}"
    if phase == "Reading" and progress.references:
        return f"  {count(progress.references)}"
    if phase in ("Joining", "Planning") and progress.candidates:
        return f"  {count(progress.candidates)} candidates"
    if phase in _SWEEP and progress.total:
        return (
            f"  {count(progress.deleted)} of {count(progress.total)}, {count(progress.backed_up)} backed up"
        )
    if phase == "Checking" and progress.deleted:
        return f"  {count(progress.deleted)}"
    if phase == "Restoring":
        return f"  {count(progress.restored)}" + (f" of {count(progress.total)}" if progress.total else "")
    return ""
