"""What is sent when an object comes back, and what is said when the store did not keep it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from tests.unit.vault.test_codec import entry

from s3gc.backup.bringing import is_recorded_version
from s3gc.backup.fetching import reason_to_skip
from s3gc.backup.headers import grants_in, headers_for, lost_in, part_size_of
from s3gc.store.types import ObjectHead, ObjectVersion
from s3gc.vault.records import BackupEntry, PlannedObject

MIB = 1024 * 1024
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACL = """<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>me</ID></Owner>
<AccessControlList><Grant><Grantee xmlns:xsi="x" xsi:type="CanonicalUser"><ID>me</ID></Grantee>
<Permission>FULL_CONTROL</Permission></Grant><Grant><Grantee xmlns:xsi="x" xsi:type="Group">
<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>
</AccessControlList></AccessControlPolicy>"""


def sent(made: BackupEntry, *, is_original: bool = True, is_multipart: bool = False) -> dict[str, str]:
    return headers_for(made, is_original=is_original, is_multipart=is_multipart)


def test_everything_of_the_object_is_sent_as_it_was_recorded() -> None:
    headers = {
        "content-type": "a/b", "content-encoding": "gzip", "content-language": "de", "content-disposition": "inline",
        "cache-control": "no-store", "expires": "not a date", "x-amz-website-redirect-location": "/x",
        "x-amz-meta-a": "=?UTF-8?q?=C3=A4?=", "x-amz-meta-b": "",
    }  # fmt: skip
    assert sent(entry(headers=headers)) == headers


def test_what_is_the_stores_own_is_not_sent() -> None:
    headers = {
        "x-amz-restore": "x", "x-amz-tagging-count": "1", "x-amz-expiration": "x", "x-amz-mp-parts-count": "3",
        "x-amz-object-lock-mode": "GOVERNANCE", "x-amz-replication-status": "COMPLETED",
    }  # fmt: skip
    assert sent(entry(headers=headers)) == {}


def test_tags_come_back_whatever_is_in_them() -> None:
    tags = (("a b", "c&d=e+f"), ("ü", ""))
    assert tuple(parse_qsl(sent(entry(tags=tags))["x-amz-tagging"], keep_blank_values=True)) == tags
    assert "x-amz-tagging" not in sent(entry(tags=()))
    assert "x-amz-tagging" not in sent(entry(tags=None))


def test_encryption_goes_back_as_it_was_and_a_key_never_to_another_place() -> None:
    kms = {
        "x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "arn:k",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
    }  # fmt: skip
    assert sent(entry(headers=kms)) == kms
    assert sent(entry(headers=kms), is_original=False) == {}
    plain = {"x-amz-server-side-encryption": "AES256"}
    assert sent(entry(headers=plain), is_original=False) == plain


def test_one_checksum_of_the_whole_object_is_sent_and_none_of_its_parts() -> None:
    both = {
        "x-amz-checksum-crc32": "AAAAAA==",
        "x-amz-checksum-sha256": "s",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert sent(entry(headers=both)) == {"x-amz-checksum-sha256": "s"}
    assert sent(entry(headers=both), is_multipart=True) == {}
    assert (
        sent(entry(headers={"x-amz-checksum-crc32": "AAAAAA==-2", "x-amz-checksum-type": "COMPOSITE"})) == {}
    )


def test_an_acl_goes_back_as_grants_to_its_own_place_only() -> None:
    headers = sent(entry(acl=ACL, headers={}))
    assert headers == {
        "x-amz-grant-full-control": 'id="me"',
        "x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    }
    assert grants_in(headers) == set(headers)
    assert sent(entry(acl=ACL, headers={}), is_original=False) == {}
    assert sent(entry(acl="<broken", headers={})) == {}


def test_a_storage_class_is_sent_only_when_it_is_not_the_default() -> None:
    assert sent(entry(storage_class="STANDARD_IA", headers={})) == {"x-amz-storage-class": "STANDARD_IA"}
    assert sent(entry(headers={})) == {}


def head(made: BackupEntry, **changes: object) -> ObjectHead:
    same = ObjectHead(made.key, made.size, made.etag, made.last_modified, None, made.headers)
    return dataclasses.replace(same, **changes)  # type: ignore[arg-type]  # fields by name


def test_nothing_is_said_when_everything_came_back() -> None:
    made = entry(tags=(("a", "b"),))
    assert lost_in(made, head(made, headers={**made.headers, "x-amz-tagging-count": "1"})) == []


@pytest.mark.parametrize(
    ("recorded", "now", "says"),
    [
        ({"content-type": "a/b"}, {}, "content-type"),
        ({"x-amz-meta-a": "1"}, {"x-amz-meta-a": "2"}, "x-amz-meta-a"),
        ({"x-amz-server-side-encryption": "aws:kms"}, {}, "encryption"),
        ({}, {"x-amz-storage-class": "STANDARD_IA"}, "storage class"),
    ],
)
def test_what_the_store_did_not_keep_is_said(
    recorded: dict[str, str], now: dict[str, str], says: str
) -> None:
    made = entry(headers=recorded)
    assert any(says in loss for loss in lost_in(made, head(made, headers=now)))


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [
        (20 * MIB, 3, 8 * MIB),
        (20 * MIB, 4, 5 * MIB),
        (20 * MIB, 2, 16 * MIB),
        (100 * MIB, 2, 50 * MIB),
        (5 * MIB, 1, 8 * MIB),
        (7 * MIB, 0, 64 * MIB),
        (10 * MIB, 10, 64 * MIB),
    ],
)
def test_the_part_size_is_guessed_from_the_number_of_parts(size: int, parts: int, expected: int) -> None:
    etag = f"{'a' * 32}-{parts}" if parts else "a" * 32
    assert part_size_of(entry(size=size, etag=etag)) == expected


def test_there_are_never_more_parts_than_a_store_takes() -> None:
    made = entry(size=5 * 1024**4, etag="x")
    assert -(-made.size // part_size_of(made)) <= 10_000


PLANNED = PlannedObject("k", "e", 1, NOW.replace(microsecond=123_000))


def reason(
    planned: PlannedObject = PLANNED, default_days: int | None = None, **changes: object
) -> str | None:
    seen = ObjectHead("k", 1, "e", NOW, None, {})
    found = reason_to_skip(
        planned,
        dataclasses.replace(seen, **changes),  # type: ignore[arg-type]  # fields by name
        now=NOW + timedelta(days=10),
        locked_by_default=timedelta(days=default_days) if default_days else None,
    )
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-object-lock-legal-hold": "ON"}, "locked"),
        ({"x-amz-object-lock-legal-hold": "OFF"}, None),
        ({"x-amz-object-lock-retain-until-date": "2026-01-12T00:00:00Z"}, "locked"),
        ({"x-amz-object-lock-retain-until-date": "2026-01-02T00:00:00.000Z"}, None),
        ({"x-amz-object-lock-retain-until-date": "who knows"}, "locked"),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, "sse_c"),
        ({"x-amz-missing-meta": "1"}, "unreadable_metadata"),
        ({"x-amz-missing-meta": "0"}, None),
        ({"x-amz-meta-a": "\udcff"}, "unreadable_metadata"),
        ({"x-amz-meta-a": "ü"}, None),
    ],
)
def test_what_must_not_be_touched_is_skipped(headers: dict[str, str], expected: str | None) -> None:
    assert reason(headers=headers) == expected


def test_an_object_is_the_planned_one_by_etag_size_and_second() -> None:
    assert reason() is None
    assert reason(etag="other") == "replaced"
    assert reason(size=2) == "replaced"
    assert reason(last_modified=NOW + timedelta(seconds=1)) == "replaced"


def test_a_default_retention_that_the_store_does_not_show_counts() -> None:
    assert reason(default_days=30) == "locked"
    assert reason(default_days=5) is None
    over = {"x-amz-object-lock-retain-until-date": "2026-01-02T00:00:00Z"}
    assert reason(default_days=30, headers=over) is None


@pytest.mark.parametrize(
    ("version_id", "listed", "is_same"),
    [
        ("v1", "v1", True),
        ("v1", "v2", False),
        (None, "null", True),
        ("null", "null", True),
        (None, "v1", False),
    ],
)
def test_a_version_is_the_recorded_one_by_its_id_where_there_is_one(
    version_id: str | None, listed: str, is_same: bool
) -> None:
    made = entry(version_id=version_id, last_modified=NOW)
    version = ObjectVersion("k", listed, False, False, NOW.replace(microsecond=5), made.etag, made.size)
    assert is_recorded_version(made, version) is is_same
    assert not is_recorded_version(made, dataclasses.replace(version, etag="other"))
    assert not is_recorded_version(made, dataclasses.replace(version, is_marker=True))
