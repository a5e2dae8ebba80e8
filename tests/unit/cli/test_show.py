"""What a terminal shows: within 80 columns, with hostile text made harmless, and with the way on."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from s3gc.cli import output, show
from s3gc.cli.options import Flags
from s3gc.cli.progress import _Log, _Terminal
from s3gc.results import ColumnCoverage, GCResult, GuardReport, Outcome, Progress, RestoreResult

ID = "01HX3K9V7QW2M4N8R5T6Y0ZABC"
HOSTILE = "[red]a\x1b[2J\u202e\nb[/red] :smile:"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns with colours; returns what was written to it."""
    written = io.StringIO()

    def console(*, stderr: bool = False) -> Console:
        return Console(
            file=written,
            width=80,
            force_terminal=True,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )

    monkeypatch.setattr(output, "console", console)
    monkeypatch.setattr(show, "console", console)
    return written


def plain(written: io.StringIO) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.getvalue())


def full_result(**changes: object) -> GCResult:
    values: dict[str, object] = {
        "operation_id": ID,
        "bucket": "shop-media",
        "mode": "dry_run",
        "outcome": Outcome.REFUSED,
        "total_scanned": 123_456,
        "total_bytes": 5 * 1024**4,
        "candidates_found": 12_345,
        "waiting_count": 345,
        "young_count": 99,
        "excluded_count": 5,
        "verified_orphans": 12_000,
        "reclaimable_bytes": 3 * 1024**3,
        "missing_objects": 7,
        "plan_digest": "ab" * 32,
        "guards": [
            GuardReport(
                guard="maxDeletePercent",
                tripped=True,
                value=12,
                limit=10,
                message="the plan deletes 12 % of the objects in scope, and at most 10 % may go",
                way_on="look at the plan and approve it, or raise limits.maxDeletePercent",
                waivable=True,
            )
        ],
        "coverage": [
            ColumnCoverage(
                source="shop", column="public.users.avatar_url", values=1000, resolved=990, missing=10
            ),
            ColumnCoverage(
                source="shop",
                column="a_schema.with_a_rather_long_table_name.and_column",
                values=10,
                resolved=1,
            ),
        ],
        **changes,
    }
    return GCResult.model_validate(values)


def test_a_result_fits_in_eighty_columns(terminal: io.StringIO) -> None:
    show.show_result(full_result())
    text = plain(terminal)
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "Refused",
        "123,456 objects, 5.0 TiB",
        "12,000 objects, 3.0 GiB",
        "345 of them waiting",
        "99 %",
    ):
        assert expected in text
    assert "maxDeletePercent" in text
    assert "7 references to an object that does not exist" in text


def test_a_refusal_that_can_be_approved_says_how(terminal: io.StringIO) -> None:
    show.show_result(full_result())
    words = " ".join(plain(terminal).split())
    assert f"s3gc approve {ID} {'ab' * 8}" in words
    flags = Flags(
        policy=Path("my policy.yaml"), values={"bucket": "b-b", "vault_path": "v", "prefixes": ["x/"]}
    )
    show.show_result(full_result(), again=flags.again)
    assert f"s3gc approve -f 'my policy.yaml' --bucket b-b --vault v {ID}" in " ".join(
        plain(terminal).split()
    )
    terminal.truncate(0)
    terminal.seek(0)
    never = GuardReport(guard="undeclaredColumn", tripped=True, message="x")
    show.show_result(full_result(guards=[never]))
    assert "s3gc approve" not in plain(terminal)


def test_an_execute_says_how_to_undo_it(terminal: io.StringIO) -> None:
    show.show_result(
        full_result(
            mode="execute", outcome=Outcome.PARTIALLY_FAILED, guards=[], deleted_count=5, late_references=1
        )
    )
    text = plain(terminal)
    assert f"s3gc restore {ID} --no-dry-run" in text
    assert "a delete marker frees nothing yet" in " ".join(text.split())
    assert "1 object referenced during the sweep, restored" in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_can_be_shown(terminal: io.StringIO, outcome: Outcome) -> None:
    show.show_result(full_result(outcome=outcome))
    assert outcome.value in plain(terminal)


def test_hostile_text_does_nothing_to_the_terminal(terminal: io.StringIO) -> None:
    show.show_result(
        full_result(
            errors=[HOSTILE],
            late_references=1,
            late_reference_keys=[HOSTILE],
            guards=[GuardReport(guard="g", subject=HOSTILE, tripped=True, message=HOSTILE)],
            coverage=[ColumnCoverage(source=HOSTILE, column=HOSTILE, values=1)],
        )
    )
    show.show_restore(
        RestoreResult(
            operation_id=ID,
            dry_run=True,
            restored_count=1,
            restored_keys=[HOSTILE],
            failed_count=1,
            failed_keys={HOSTILE: HOSTILE},
            errors=[HOSTILE],
        )
    )
    text = terminal.getvalue()
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "[red]a\\u001b[2J\\u202e\\nb[/red] :smile:" in " ".join(plain(terminal).split())


def test_a_dry_restore_says_that_nothing_was_changed(terminal: io.StringIO) -> None:
    show.show_restore(
        RestoreResult(
            operation_id=ID, dry_run=True, restored_count=12, restored_keys=[f"k{i}" for i in range(12)]
        )
    )
    text = plain(terminal)
    assert "12 objects would be restored" in text
    assert "and 2 more" in text
    assert "nothing was changed; add --no-dry-run" in text


def test_progress_in_a_log_is_a_line_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    log = _Log()
    for number in range(1000):
        log(Progress("Listing", listed=number))
    for number in range(1000):
        log(Progress(("BackingUp", "Verifying", "Deleting")[number % 3], deleted=number, total=1000))
    log(Progress("Checking"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert '"phase": "Listing"' in lines[0]
    assert '"event": "progress"' in lines[1]


def test_progress_on_a_terminal_ticks_what_is_done(terminal: io.StringIO) -> None:
    with _Terminal() as live:
        live(Progress("Listing", listed=1234))
        live(Progress("Reading", references=77))
        for number in range(1, 4):
            live(Progress("BackingUp", backed_up=number, total=3))
            live(Progress("Deleting", deleted=number, backed_up=number, total=3))
    text = plain(terminal)
    assert "✓ Listed objects  1,234" in text
    assert "✓ Read references  77" in text
    assert text.count("✓ Deleted") == 1
    assert "3 of 3, 3 backed up" in text


def test_progress_of_what_failed_is_crossed_out(terminal: io.StringIO) -> None:
    def fails() -> None:
        with _Terminal() as live:
            live(Progress("Listing", listed=5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert "✗ Listing objects  5" in plain(terminal)
