"""Journals and audits as bytes: every value comes back, and no change of a single byte goes unnoticed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.exceptions import VaultCorruptedError
from s3gc.vault.codec import decode_audit, decode_journal, encode_audit, encode_journal
from s3gc.vault.records import AuditRecord, BackupEntry, PackPart

OPERATION = "01HX0000000000000000000000"
TEXT = st.text(max_size=20)
TIME = st.integers(0, 7_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ENTRY = st.builds(
    BackupEntry,
    operation_id=st.just(OPERATION),
    group=st.integers(1, 10**6),
    key=st.text(min_size=1, max_size=40),
    etag=TEXT,
    size=st.integers(0, 2**50),
    last_modified=TIME,
    version_id=st.none() | TEXT,
    storage_class=TEXT,
    sha256=TEXT,
    headers=st.dictionaries(TEXT, TEXT, max_size=4),
    tags=st.none() | st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    acl=st.none() | TEXT,
    parts=st.lists(st.builds(PackPart, *[st.integers(0, 2**50)] * 3), max_size=3).map(tuple),
)
RECORD = st.builds(
    AuditRecord, at=TIME, operation_id=st.just(OPERATION), key=TEXT, action=TEXT, reason=TEXT, detail=TEXT, etag=TEXT,
    size=st.integers(0, 2**50), version_id=st.none() | st.text(min_size=1), marker_version_id=st.none() | st.text(min_size=1),
)  # fmt: skip


def entry(**changes: object) -> BackupEntry:
    made = BackupEntry(
        OPERATION, 1, "k", "e", 1, datetime(2024, 1, 1, tzinfo=UTC), None, "STANDARD", "s", {"a": "b"}, (), None,
        (PackPart(1, 2, 3),),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # fields by name


@given(st.lists(ENTRY, max_size=5))
def test_any_entry_comes_back_from_a_journal(entries: list[BackupEntry]) -> None:
    assert decode_journal(encode_journal(OPERATION, 1, entries), "p", "v") == entries


@given(st.lists(RECORD, max_size=5), st.lists(RECORD, min_size=1, max_size=5))
def test_any_record_comes_back_from_an_audit_and_frames_follow_one_another(
    first: list[AuditRecord], second: list[AuditRecord]
) -> None:
    assert decode_audit(encode_audit(first) + encode_audit(second), "p", "v") == [*first, *second]


def test_a_lone_surrogate_does_not_stop_a_journal() -> None:
    odd = entry(key="a\udcff", headers={"x-amz-meta-a": "\ud800"})
    assert decode_journal(encode_journal(OPERATION, 1, [odd]), "p", "v") == [odd]


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    there = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    (back,) = decode_journal(encode_journal(OPERATION, 1, [entry(last_modified=there)]), "p", "v")
    assert back.last_modified == there
    assert back.last_modified.tzinfo is UTC


def test_a_journal_cut_off_anywhere_is_never_taken_for_a_shorter_one() -> None:
    data = encode_journal(OPERATION, 1, [entry(key=f"k{number}") for number in range(3)])
    for length in range(len(data) - 1):  # without its very last newline it is still whole
        with pytest.raises(VaultCorruptedError, match="journal p"):
            decode_journal(data[:length], "p", "v")


@settings(max_examples=300)
@given(st.data())
def test_a_journal_with_any_bit_flipped_is_recognised(data: st.DataObject) -> None:
    whole = encode_journal(OPERATION, 1, [entry(), entry(key="k2")])
    at = data.draw(st.integers(0, len(whole) - 2))
    bit = data.draw(st.integers(0, 7))
    changed = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
    try:
        found = decode_journal(changed, "p", "v")
    except VaultCorruptedError:
        return
    # Only in the trailer's own operation id and group can a bit flip without a consequence.
    assert found == [entry(), entry(key="k2")]


def test_an_audit_cut_off_anywhere_is_recognised() -> None:
    data = encode_audit([AuditRecord(datetime(2024, 1, 1, tzinfo=UTC), OPERATION, "k", "deleted", "r")] * 3)
    for length in range(1, len(data)):
        with pytest.raises(VaultCorruptedError, match="audit p"):
            decode_audit(data[:length], "p", "v")


def test_keys_are_readable_with_a_text_editor() -> None:
    assert "fotos/über.jpg" in encode_journal(OPERATION, 1, [entry(key="fotos/über.jpg")]).decode()
