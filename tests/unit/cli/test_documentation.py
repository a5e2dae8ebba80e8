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
