"""Vectors of tests/vectors/references.json in the first stage of the join: what is plain there is compared in full."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest
from tests.unit.references.vectors import Vector, load

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import Session, open_session
from s3gc.references.extract import extract

from .test_plain import compared


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(tmp_path_factory.mktemp("vectors"), memory_limit_mb=256) as opened:
        yield opened


def test_the_first_stage_never_calls_a_vector_plain_that_means_more_than_it_compares(
    session: Session,
) -> None:
    texts = [
        vector
        for vector in load()
        if type(vector.value) is str and vector.format not in (ReferenceFormat.KEY, ReferenceFormat.PREFIX)
    ]
    plain = 0

    def context(vector: Vector) -> str:
        return f"{vector.format} {vector.rules}"

    for _, group in groupby(sorted(texts, key=context), key=context):
        vectors = list(group)
        for row, keys in compared(
            session, [str(vector.value) for vector in vectors], vectors[0].rules
        ).items():
            vector = vectors[row]
            meaning = extract(vector.value, vector.format, vector.rules)
            assert meaning.keys <= keys, (vector.name, meaning.keys - keys)
            assert not meaning.prefixes, vector.name
            plain += 1
    assert plain > 10
