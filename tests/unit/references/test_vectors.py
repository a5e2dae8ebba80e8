"""Every vector of tests/vectors/references.json, by the full rules and past the matcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s3gc.config import ReferenceFormat
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec, ReferenceRules

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "references.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = VECTORS["cases"]


def _column(case: dict[str, Any]) -> ColumnSpec:
    context = {**VECTORS["context"], **case.get("context", {})}
    rules = ReferenceRules(
        bucket=context["bucket"],
        base_urls=tuple((base["url"], base["keyPrefix"]) for base in context.get("baseURLs", [])),
        key_prefixes=tuple(prefix for prefix in context.get("keyPrefixes", []) if prefix),
        foreign_hosts=frozenset(context.get("foreignHosts", [])),
    )
    return ColumnSpec("vectors", 0, "value", ReferenceFormat(case.get("format", "auto")), rules)


def test_there_are_at_least_150_vectors_with_names_of_their_own() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_value_yields_the_keys_that_it_must_and_none_that_it_must_not(case: dict[str, Any]) -> None:
    column = _column(case)
    found = extract(case["ref"], column.format, column.rules)
    assert set(case["must"]) <= found.keys
    assert not set(case["must_not"]) & found.keys
    assert set(case.get("must_prefixes", [])) <= found.prefixes
    assert not {*case.get("must_not_prefixes", []), ""} & found.prefixes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_matcher_loses_nothing_of_it(case: dict[str, Any]) -> None:
    column = _column(case)
    under = [prefix + "below.bin" for prefix in case.get("must_prefixes", [])]
    for key in [*case["must"], *under]:  # one at a time: each has only its own anchor to be found by
        matcher = Matcher([key], [column])
        matcher.feed(column, [case["ref"]])
        assert key in matcher.referenced
