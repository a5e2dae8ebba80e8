"""The digest is a promise: these bytes, for ever."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.exceptions import S3GCError
from s3gc.plan.digest import PlanDigest, microseconds

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def digest_of(*objects: tuple[str, str, int, datetime]) -> str:
    digest = PlanDigest()
    for item in objects:
        digest.add(*item)
    return digest.hexdigest()


def test_the_digest_of_a_plan_never_changes() -> None:
    objects = [
        ("a", "d41d8cd98f00b204e9800998ecf8427e", 0, WHEN),
        ("uploads/é.jpg", "abc-3", 5_000_000_000, WHEN),
    ]
    assert digest_of(*objects) == "18e03c79da8dc1263035d82cf8c7063672d96bda9ba6e90bfd44e3e3e018eceb"
    assert digest_of() == hashlib.sha256(b"").hexdigest()


def test_the_bytes_are_lengths_and_fields_as_documented() -> None:
    expected = b""
    for field in (b"k", b"e", b"7", b"1767323045678901"):
        expected += len(field).to_bytes(4, "big") + field
    assert digest_of(("k", "e", 7, WHEN)) == hashlib.sha256(expected).hexdigest()


def test_fields_cannot_run_into_each_other() -> None:
    assert digest_of(("ab", "c", 1, WHEN)) != digest_of(("a", "bc", 1, WHEN))
    assert digest_of(("a", "b", 11, WHEN)) != digest_of(("a", "b1", 1, WHEN))


def test_a_key_that_comes_twice_or_out_of_order_is_refused() -> None:
    for first, second in (("b", "a"), ("a", "a"), ("\U0001f600", "\uffff")):
        with pytest.raises(S3GCError, match="not strictly sorted"):
            digest_of((first, "e", 1, WHEN), (second, "e", 1, WHEN))


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    whole = microseconds(moment)
    assert datetime.fromtimestamp(0, UTC) + (moment - datetime.fromtimestamp(0, UTC)) == moment
    assert whole % 1_000_000 == moment.microsecond
