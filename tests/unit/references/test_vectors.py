"""Every vector of tests/vectors/references.json: by the full rules, and past the matcher."""

from __future__ import annotations

import pytest

from s3gc.config import ReferenceFormat
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec

from .vectors import Vector, load

VECTORS = load()
each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


@each
def test_a_value_yields_what_it_must_and_nothing_that_it_must_not(vector: Vector) -> None:
    found, expected = extract(vector.value, vector.format, vector.rules), vector.expected
    assert set(expected["must"]) <= found.keys
    assert not found.keys & set(expected.get("must_not", ()))
    assert set(expected.get("must_prefixes", ())) <= found.prefixes
    assert not found.prefixes & set(expected.get("must_not_prefixes", ()))
    assert "" not in found.keys | found.prefixes
    if expected.get("none"):
        assert found.keys == set()
        assert found.prefixes == set()
    for name in ("ignored", "unparsed", "other_bucket", "foreign"):
        if name in expected:
            assert getattr(found, name) == expected[name], name
    if "undeclared_hosts" in expected:
        assert found.undeclared_hosts == set(expected["undeclared_hosts"])


@each
def test_the_matcher_finds_the_same_keys_and_what_is_under_the_prefixes(vector: Vector) -> None:
    column = ColumnSpec("shop", 0, "public.t.c", vector.format, vector.rules)
    under = [f"{prefix}some/deep object.ts" for prefix in vector.expected.get("must_prefixes", ())]
    for key in [*vector.expected["must"], *under]:
        matcher = Matcher([key, "another/key.bin"], [column])
        matcher.feed(column, ["nothing of interest", vector.value])
        assert set(matcher.referenced) == {key}
        if vector.format not in (ReferenceFormat.KEY, ReferenceFormat.PREFIX):
            assert Matcher([key], [column]).may_concern(vector.value)


@each
def test_the_matcher_does_not_find_what_the_value_does_not_mean(vector: Vector) -> None:
    column = ColumnSpec("shop", 0, "public.t.c", vector.format, vector.rules)
    wrong = [key for key in vector.expected.get("must_not", ()) if key]
    if not wrong or set(wrong) & set(vector.expected["must"]):
        return
    matcher = Matcher(wrong, [column])
    matcher.feed(column, [vector.value])
    assert not matcher.referenced


def test_there_are_enough_vectors_and_each_has_a_name() -> None:
    assert len(VECTORS) >= 220
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)
