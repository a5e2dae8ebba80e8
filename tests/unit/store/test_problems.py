"""Which keys must never be acted on: the columns' rule against the rule in plain Python, for any key."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3gc.inventory.problems import problems
from s3gc.store.keys import INVALID_UTF8


def actionable(key: str) -> bool:
    is_short = len(key.encode()) <= 1024
    return "\ufffd" not in key and is_short and all(part not in ("", ".", "..") for part in key.split("/"))


PIECES = st.sampled_from(["/", "//", ".", "..", "a", "\n", "\ufffd", "é", "x.y", ".hidden", "...", "a" * 600])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(PIECES, min_size=1).map("".join),
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        )
    )
)
@example(["a\n/", "\n/a", "/\na", ".\n", "\n.", "a\n..", "..\n/b", "x/.\n/y"])
@example([".", "..", "./a", "a/.", "a/..", "../a", "a/./b", "a/../b", "...", "a.", ".a", "a/...", "a/.b"])
def test_a_key_has_a_problem_exactly_when_it_is_not_actionable(keys: list[str]) -> None:
    found = problems(pa.array(keys, pa.string())).to_pylist()
    assert [reason is None for reason in found] == [actionable(key) for key in keys]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (INVALID_UTF8 + "a%FF", "not UTF-8"),
        ("a\ufffdb", "contains U+FFFD"),
        ("/lead", "starts with '/'"),
        ("dir/", "ends with '/'"),
        ("a//b", "has an empty segment"),
        ("a/../b", "has a '.' or '..' segment"),
        ("./a", "has a '.' or '..' segment"),
        ("é" * 513, "longer than 1024 bytes"),
        ("é" * 512, None),
        ("a/b.c/..d/.e", None),
    ],
)
def test_each_problem_is_named(key: str, reason: str | None) -> None:
    assert problems(pa.array(["plain", key], pa.string())).to_pylist() == [None, reason]
