"""The command line: one module a command, one way to find the policy, to show results and to end.

`options` has what commands share on their command line, `settings` turns it into a policy, `runtime` runs a
command with its signals, errors and exit code, `progress` shows a cycle while it runs, `output` and `show`
print. Nothing heavy is imported before a command needs it: `s3gc --help` must not wait for a database
driver.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The entry point of the `s3gc` command; ends the process with an exit code of `exceptions`."""
    from s3gc.cli.app import run

    run()
