"""One key explained: the first thing that keeps it is the sentence, and only nothing at all lets it go."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from s3gc.config import S3GCConfig
from s3gc.plan.explain import KeyFacts, NamedBy, PastOperation, explain

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OLD = KeyFacts("u/a.jpg", True, size=10, etag="abc", last_modified=NOW - 30 * DAY, storage_class="STANDARD")


def config(**changes: Any) -> S3GCConfig:
    return S3GCConfig(**{"bucket": "my-bucket", **changes})


def test_an_old_object_that_nothing_names_would_go() -> None:
    answer = explain(OLD, [], config=config(), now=NOW)
    assert answer.would_go
    assert answer.reasons == ()
    assert answer.sentence.startswith("would go because no reference names it, it is 30.0 days old")


@pytest.mark.parametrize(
    ("facts", "policy", "sentence"),
    [
        (OLD, {"prefixes": ("v/",)}, "outside the scope's prefixes ('v/')"),
        (OLD, {"exclude_prefixes": ("u/",)}, "under the excluded prefix 'u/'"),
        (replace(OLD, key=".s3gc/claims/x"), {}, "reserved for s3gc"),
        (replace(OLD, left_out="holds a vault"), {}, "leaves it out: holds a vault"),
        (replace(OLD, problem="ends with '/'"), {}, "not actionable: it ends with '/'"),
        (replace(OLD, last_modified=NOW - 6 * DAY), {}, "6.0 days old, and retention_days is 7"),
        (replace(OLD, last_modified=NOW - 7 * DAY), {}, "7.0 days old, and retention_days is 7"),
        (
            replace(OLD, last_modified=NOW - DAY / 4),
            {"retention_days": 0.5},
            "it is 6 hours old, and retention_days is 0.5",
        ),
        (
            replace(OLD, last_modified=NOW),
            {"retention_days": 0},
            "older than that even with retention_days 0",
        ),
        (replace(OLD, last_modified=NOW + DAY), {"retention_days": 0}, "written at 2026-03-02 12:00:00 UTC"),
        (replace(OLD, etag="abc-3"), {}, "age counts from the first listing"),
        (replace(OLD, etag="abc-3", first_listed=NOW - 2 * DAY), {}, "2.0 days old"),
        (
            replace(OLD, held_until=NOW + DAY, held_because="restored by 01HX"),
            {},
            "held until 2026-03-02 12:00 UTC (restored by 01HX)",
        ),
        (OLD, {"unreferenced_days": 1}, "not yet in any believed cycle"),
        (
            replace(OLD, first_unreferenced=NOW - 12 * DAY / 24),
            {"unreferenced_days": 1},
            "only since 2026-03-01 00:00 UTC",
        ),
    ],
)
def test_each_thing_that_keeps_an_object_is_said(
    facts: KeyFacts, policy: dict[str, Any], sentence: str
) -> None:
    answer = explain(facts, [], config=config(**policy), now=NOW)
    assert not answer.would_go
    assert answer.sentence.startswith("kept because ")
    assert sentence in answer.sentence


def test_what_is_over_keeps_nothing() -> None:
    facts = replace(
        OLD, etag="abc-3", first_listed=NOW - 8 * DAY, held_until=NOW, first_unreferenced=NOW - DAY
    )
    assert explain(facts, [], config=config(unreferenced_days=1), now=NOW).would_go


@pytest.mark.parametrize(
    ("age", "said"),
    [(DAY, "1.0 days"), (DAY / 2, "12 hours"), (DAY / 288, "5 minutes"), (DAY / 43200, "2 seconds")],
)
def test_an_age_is_said_in_a_unit_that_a_person_knows(age: timedelta, said: str) -> None:
    answer = explain(replace(OLD, last_modified=NOW - age), [], config=config(retention_days=0), now=NOW)
    assert answer.would_go
    assert f"it is {said} old" in answer.sentence


def test_a_reference_names_its_column_and_value() -> None:
    named = [NamedBy("shop", "users.avatar", "/u/a.jpg"), NamedBy("shop", "t.folder", "u/", "u/")]
    answer = explain(OLD, named, config=config(), now=NOW)
    assert answer.sentence == "kept because shop: users.avatar names it by '/u/a.jpg'"
    assert answer.reasons[1] == "shop: t.folder names it by 'u/' (everything under 'u/')"


def test_without_a_database_everything_is_kept() -> None:
    answer = explain(OLD, [], config=config(), now=NOW, has_source=False)
    assert "no database is configured" in answer.sentence


def test_an_object_that_is_gone_says_which_operation_took_it() -> None:
    facts = KeyFacts("u/a.jpg", False, history=(PastOperation("01HX", "deleted", NOW),))
    assert "operation 01HX deleted it" in explain(facts, [], config=config(), now=NOW).sentence
    purged = KeyFacts("u/a.jpg", False, history=(PastOperation("01HX", "purged", NOW),))
    assert "The vault has the only copy" in explain(purged, [], config=config(), now=NOW).sentence
    missing = explain(
        KeyFacts("u/a.jpg", False), [NamedBy("shop", "t.c", "u/a.jpg")], config=config(), now=NOW
    )
    assert missing.sentence == "there is no such object, although shop: t.c names it"
    assert not missing.would_go


def test_the_explanation_is_json() -> None:
    facts = replace(OLD, history=(PastOperation("01HX", "backed_up", NOW),))
    shown = json.loads(json.dumps(explain(facts, [], config=config(), now=NOW).to_json()))
    assert shown["would_go"] is True
    assert shown["last_modified"] == "2026-01-30T12:00:00+00:00"
    assert shown["history"][0]["action"] == "backed_up"
    assert shown["references"] == []
