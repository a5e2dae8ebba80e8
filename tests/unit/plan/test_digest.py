"""The digest is a promise: these bytes, for ever."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.exceptions import S3GCError
from s3gc.plan.digest import PlanDigest, microseconds
from s3gc.plan.planfile import PLAN_SCHEMA

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def rows_of(*objects: tuple[str, str, int, datetime]) -> pa.RecordBatch:
    names = ("key", "etag", "size", "last_modified")
    return pa.RecordBatch.from_pylist(
        [dict(zip(names, item, strict=True)) for item in objects],
        schema=pa.schema([(name, PLAN_SCHEMA.field(name).type) for name in names]),
    )


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


OBJECTS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8),
        st.text(max_size=5),
        st.integers(0, 2**60),
        st.datetimes(timezones=st.just(UTC)),
    ),
    unique_by=lambda item: item[0],
    max_size=30,
)


@given(OBJECTS, st.integers(1, 9))
def test_many_objects_at_once_give_the_same_digest(
    objects: list[tuple[str, str, int, datetime]], at_once: int
) -> None:
    objects.sort(key=lambda item: item[0].encode())
    digest = PlanDigest()
    for start in range(0, len(objects), at_once):
        digest.add_all(rows_of(*objects[start : start + at_once]))
    assert digest.hexdigest() == digest_of(*objects)


def test_many_objects_at_once_are_refused_when_they_are_not_sorted() -> None:
    for keys in (("b", "a"), ("a", "a"), ("\U0001f600", "\uffff"), ("a", "c", "b")):
        items = [(key, "e", 1, WHEN) for key in keys]
        with pytest.raises(S3GCError, match="not strictly sorted at key"):
            PlanDigest().add_all(rows_of(*items))
        digest = PlanDigest()
        with pytest.raises(S3GCError, match="not strictly sorted at key"):
            for item in items:
                digest.add_all(rows_of(item))
    long = "a" * 5000
    digest = PlanDigest()
    digest.add_all(rows_of((long, long, 1, WHEN)))
    assert digest.hexdigest() == digest_of((long, long, 1, WHEN))


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    whole = microseconds(moment)
    assert datetime.fromtimestamp(0, UTC) + (moment - datetime.fromtimestamp(0, UTC)) == moment
    assert whole % 1_000_000 == moment.microsecond
