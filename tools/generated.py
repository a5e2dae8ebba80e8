#!/usr/bin/env python3
"""Files that are made from other files: write them, or with --check say which are not current.

    python tools/generated.py [--check]

The table of docs/policy.md comes from `s3gc.names`, `crds/` from the models of `s3gc.manifest`, what belongs to the
chart from `chartfiles`. The lock
files come from pyproject.toml by `make lock`, which needs a network; here only their agreement is checked:
every requirement of pyproject.toml is locked at a version that satisfies it, with hashes, and no host is
named.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "operator"))

import chartfiles  # noqa: E402  (beside this file)


def with_table(text: str, table: str) -> str:
    """`text` with the Markdown table that has the header row of `table` replaced by it."""
    header = table.partition("\n")[0]
    pattern = re.compile(re.escape(header) + r"\n(\|.*\n)*")
    if not pattern.search(text):
        raise SystemExit(f"docs/policy.md has no table that starts with: {header}")
    return pattern.sub(lambda _: table, text, count=1)


def generated() -> Iterator[tuple[Path, str]]:
    """Each generated file and what it should hold."""
    from s3gc.controller.crd import definitions
    from s3gc.names import markdown_table

    policy = ROOT / "docs" / "policy.md"
    yield policy, with_table(policy.read_text(), markdown_table())
    for name, text in definitions().items():
        yield ROOT / "crds" / name, text
    yield from chartfiles.generated()


def lock_problems(lock: Path, requirements: Iterable[str]) -> Iterator[str]:
    text = lock.read_text()
    if "://" in text:
        yield f"{lock.name} names a host; locks must work with every mirror"
    entries = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)((?:.*\\\n)+.*)", text, re.MULTILINE)
    locked: dict[str, set[str]] = {}  # a package may have one version for each marker
    for name, version, rest in entries:
        locked.setdefault(canonicalize_name(name), set()).add(version)
        if "--hash=sha256:" not in rest:
            yield f"{lock.name} has {name} without a hash"
    for line in requirements:
        requirement = Requirement(line)
        versions = locked.get(canonicalize_name(requirement.name), set())
        if not versions:
            yield f"{lock.name} does not have {requirement.name}: run `make lock`"
        elif not all(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"{lock.name} has {requirement.name} {sorted(versions)}, wanted is {line}: run `make lock`"


def problems() -> Iterator[str]:
    for path, wanted in generated():
        if not path.exists() or path.read_text() != wanted:
            yield f"{path.relative_to(ROOT)} is not current: run `make generated`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    base, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    everything = [
        *base,
        *(line for extra in extras.values() for line in extra),
        *project["dependency-groups"]["dev"],
    ]
    yield from lock_problems(ROOT / "requirements.lock", everything)
    yield from lock_problems(ROOT / "requirements-demo.lock", [*base, *extras["demo"]])
    yield from lock_problems(ROOT / "requirements-image.lock", [*base, *extras["mysql"], *extras["operator"]])
    tools = [
        line for line in (ROOT / "requirements-build.in").read_text().splitlines() if not line.startswith("#")
    ]
    yield from lock_problems(ROOT / "requirements-build.lock", tools)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when something is not current"
    )
    if not parser.parse_args().check:
        for path, text in generated():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    found = list(problems())
    if found:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
