"""Printing: one value as JSON, YAML or a table, in at most the terminal's width, with hostile text made
harmless."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from s3gc.cli.options import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "emit", "form", "grid", "table"]


def form(asked: Output | None, *, watched_only: bool = False) -> Output:
    """The form to print in: as asked, else a table; with `watched_only`, JSON where nobody watches."""
    if asked is not None:
        return asked
    return Output.JSON if watched_only and not sys.stdout.isatty() else Output.TABLE


def emit(value: Any, how: Output) -> None:
    """Print plain data as JSON (one line where nobody watches, indented on a terminal) or as YAML."""
    if how is Output.YAML:
        import yaml

        sys.stdout.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100))
    else:
        indent = 2 if sys.stdout.isatty() else None
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    """A console that never reads markup or emoji out of other people's text."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def table(*columns: str | tuple[str, str], title: str | None = None) -> Table:
    """A quiet table. A column is its heading, or (heading, "right" | "fold" | "key")."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1),
    )
    for column in columns:
        heading, kind = column if isinstance(column, tuple) else (column, "left")
        if kind == "right":
            made.add_column(heading, justify="right", no_wrap=True)
        elif kind == "fold":
            made.add_column(heading, overflow="fold", ratio=1)
        elif kind == "key":
            made.add_column(heading, overflow="ellipsis", no_wrap=True, min_width=12)
        else:
            made.add_column(heading, no_wrap=True)
    return made


def grid() -> Table:
    """Two columns of facts: a dim name and what it is."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    return made
