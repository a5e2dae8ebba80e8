"""docs/conditions.md has every reason that the controller can give, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.chart.rendering import ROOT

CONTROLLER = ROOT / "operator" / "s3gc" / "controller"
PAGE = (ROOT / "docs" / "conditions.md").read_text()

#: Modules in which conditions and events are made.
MODULES = (
    "acting",
    "conditions",
    "decide",
    "events",
    "reconcile_bucketgc",
    "reconcile_gcrestore",
    "restores",
    "status",
)

#: Words of theirs that are no reasons: values, types, phases.
OTHER = {
    "True",
    "False",
    "Unknown",
    "Normal",
    "Warning",
    "Execute",
    "Starting",
    "Ready",
    "Stalled",
    "Reconciling",
    "LastCycleSucceeded",
    "Background",
}


def _words() -> Iterator[str]:
    for module in MODULES:
        tree = ast.parse((CONTROLLER / f"{module}.py").read_text())
        exported = {
            id(each)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            for each in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in exported:
                continue
            if re.fullmatch(r"(?:[A-Z][a-z]+)+(?:GC(?:[A-Z][a-z]+)*)?", node.value):
                yield node.value


def test_every_reason_is_documented() -> None:
    missing = {word for word in _words() if f"`{word}`" not in PAGE} - OTHER
    assert missing == set()


def test_no_reason_is_documented_that_nobody_gives() -> None:
    source = "\n".join(path.read_text() for path in CONTROLLER.glob("*.py"))
    documented = set(re.findall(r"`([A-Z][A-Za-z]+)`", PAGE))
    assert {word for word in documented if f'"{word}"' not in source} == set()
