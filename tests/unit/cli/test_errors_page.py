"""docs/errors.md quotes what the program says, and its exit codes are the classes' own."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from s3gc import exceptions

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "errors.md").read_text()
QUOTED = re.findall(r"^\| `([^`]+)` \|", TEXT.partition("## Configuration")[2], re.MULTILINE)


@cache
def sentences() -> list[str]:
    """Every text in the source, with `…` for what is put in."""
    found = []
    for path in sorted((ROOT / "operator" / "s3gc").rglob("*.py")):
        tree = ast.parse(path.read_text())
        notes = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
                found.append("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
                found.append(node.value)
    return found


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_program_has_each_quoted_sentence(quoted: str) -> None:
    pieces = [re.escape(piece.strip()) for piece in quoted.split("…") if piece.strip()]
    assert any(len(piece) >= 9 for piece in pieces), "too short to be recognised"
    wanted = re.compile(".*".join(pieces), re.DOTALL)
    assert any(wanted.search(text) for text in sentences())


def test_the_sections_have_rows() -> None:
    assert len(QUOTED) >= 90


def test_the_exit_codes_are_those_of_the_classes() -> None:
    rows = re.findall(r"^\| (\d) \| (.+?) \|", TEXT, re.MULTILINE)
    table = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert table == {
        name: each.exit_code
        for name, each in vars(exceptions).items()
        if isinstance(each, type) and issubclass(each, exceptions.S3GCError)
    }
