"""20,000 keys, each written in a random way: the full rules find it, and the matcher loses nothing they find.

Seeded: a failure repeats.
"""

from __future__ import annotations

import random

import pytest

from s3gc.config import ReferenceFormat
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec

from .spelled import RULES, random_key, random_way

CASES, BATCH = 20_000, 500
COLUMN = ColumnSpec("shop", 0, "public.t.c", ReferenceFormat.AUTO, RULES)


#: As many of them are run each time; `make soak` runs all.
USUAL = 16


@pytest.mark.parametrize(
    "seed",
    [pytest.param(n, marks=pytest.mark.soak if n >= USUAL else ()) for n in range(CASES // BATCH)],
)
def test_every_spelling_of_a_key_is_read_and_passes_the_filter(seed: int) -> None:
    rng = random.Random(seed)
    unread, lost = [], []
    for _ in range(BATCH):
        key = random_key(rng)
        name, value = random_way(rng, key)
        keys = extract(value, ReferenceFormat.AUTO, RULES).keys
        if key not in keys:
            unread.append((name, key, value))
            continue
        # Now and then another of the keys: the filter must hold for whatever the rules make of a value.
        for wanted in {key, rng.choice(sorted(keys)) if rng.random() < 0.25 else key}:
            matcher = Matcher([wanted], [COLUMN])
            matcher.feed(COLUMN, [value])
            if wanted not in matcher.referenced:
                lost.append((name, wanted, value))
    assert not unread, f"{len(unread)} not read, such as {unread[:3]}"
    assert not lost, f"{len(lost)} lost, such as {lost[:3]}"
