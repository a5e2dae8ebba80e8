"""docs/cli.md says what the command line is."""

from __future__ import annotations

import re
from pathlib import Path

from s3gc import exceptions
from s3gc.cli.app import COMMANDS

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def test_every_command_is_listed_in_the_order_of_the_help() -> None:
    assert re.findall(r"^s3gc (\w+) {2,}", TEXT, re.MULTILINE) == list(COMMANDS)


def test_every_exit_code_is_in_the_table() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    errors = [
        each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, Exception)
    ]
    raised = {getattr(each, "exit_code", 1) for each in errors}
    assert table == raised | {0, 4, 130, exceptions.EXIT_STOPPED}


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).parents[3]
    pages = [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        *sorted(root.glob("charts/*/README.md")),
    ]
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page.relative_to(root)}: {link}")
    assert broken == []


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
