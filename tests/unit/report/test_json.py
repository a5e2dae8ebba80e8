"""A result as JSON: whole on one line, and in short for a termination message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.report.json import SHORT_BYTES, result_line, short_result
from s3gc.results import (
    ColumnCoverage,
    GCResult,
    GuardReport,
    Outcome,
    SourceVerification,
    VerificationLevel,
)


def result_of(**changes: object) -> GCResult:
    values = {"operation_id": "01HX3K9V7QW2M4N8R5T6Y0ZABC", "outcome": Outcome.REFUSED, **changes}
    return GCResult.model_validate(values)


def test_the_whole_result_is_one_line_and_comes_back() -> None:
    result = result_of(errors=["two\nlines", "漢"], coverage=[ColumnCoverage(source="s", column="c")])
    line = result_line(result)
    assert "\n" not in line
    assert GCResult.model_validate_json(line) == result


def test_the_short_result_has_what_decides() -> None:
    guards = [
        GuardReport(guard="maxDeletePercent", tripped=True, value=12, limit=10, message="long " * 100),
        GuardReport(guard="minReferences", tripped=False),
    ]
    sources = [
        SourceVerification(
            name="shop",
            level=VerificationLevel.RESCAN,
            reason="r" * 500,
            next_step="ALTER ROLE s3gc REPLICATION",
        ),
        *(
            SourceVerification(name=f"s{number}", level=VerificationLevel.CDC, lag_bytes=0)
            for number in range(9)
        ),
    ]
    short = json.loads(
        short_result(
            result_of(
                guards=guards,
                deleted_count=5,
                plan_digest="ab" * 32,
                errors=["x" * 500, "2", "3", "4"],
                coverage=[ColumnCoverage(source="s", column="c")],
                sources=sources,
            )
        )
    )
    assert (short["outcome"], short["deleted_count"], short["plan_digest"]) == ("Refused", 5, "ab" * 32)
    assert short["guards"] == [
        {
            "guard": "maxDeletePercent",
            "subject": "",
            "value": 12.0,
            "limit": 10.0,
            "waivable": False,
            "waived": False,
        }
    ]
    assert [len(error) for error in short["errors"]] == [200, 1, 1]
    assert "coverage" not in short
    assert short["sources"] == [
        {
            "name": "shop",
            "level": "rescan",
            "reason": "r" * 159 + "…",
            "next_step": "ALTER ROLE s3gc REPLICATION",
        },
        *({"name": f"s{number}", "level": "cdc", "lag_bytes": 0} for number in range(7)),
    ]


@given(
    st.lists(st.text(max_size=600), max_size=6),
    st.lists(st.text(min_size=1, max_size=300), max_size=30),
    st.text(max_size=3000),
)
def test_the_short_result_always_fits(errors: list[str], subjects: list[str], report: str) -> None:
    guards = [GuardReport(guard="undeclaredColumns", subject=subject, tripped=True) for subject in subjects]
    sources = [
        SourceVerification(
            name=subject[:63], level=VerificationLevel.RESCAN, reason=subject, next_step=report
        )
        for subject in subjects
    ]
    text = short_result(result_of(errors=errors, guards=guards, report=report, sources=sources))
    assert len(text.encode()) <= SHORT_BYTES
    assert json.loads(text)["outcome"] == "Refused"


def test_what_cannot_fit_is_said() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        short_result(result_of(), limit=20)
