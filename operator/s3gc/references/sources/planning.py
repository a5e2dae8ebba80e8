"""What all dialects decide alike: the rules of a column, spellings of a key, and how problems are reported.

Stands below the dialect modules (`postgres`, `mysql`, `sqlite`) and knows none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from s3gc.config import CDCBackend, ReferenceFormat, SourceConfig
from s3gc.exceptions import AccessDeniedError, ConfigurationError
from s3gc.references.sources.urls import Address, parse_url
from s3gc.references.types import ColumnSpec, ReferenceRules

__all__ = [
    "Problems",
    "bounded",
    "byte_spellings",
    "capture_address",
    "key_spellings",
    "one_statement",
    "own_sql",
    "query_obstacle",
    "rules_of",
    "single_line",
]


_SUBQUERY = re.compile(r"\b(select|table)\b", re.IGNORECASE)


@dataclass(slots=True)
class Problems:
    """Everything that is wrong with one source, collected so that a person sees all of it at once."""

    source: str
    location: str
    found: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        if sentence not in self.found:
            self.found.append(sentence)

    def deny(self, sentence: str) -> None:
        """A right is missing; `sentence` names the GRANT."""
        if sentence not in self.denied:
            self.denied.append(sentence)

    def raise_if_any(self) -> None:
        """Raise AccessDeniedError when only rights are missing, else ConfigurationError, with every problem."""
        everything = [*self.found, *self.denied]
        if not everything:
            return
        where = f"source {self.source!r} ({self.location})"
        if len(everything) == 1:
            message = f"{where}: {everything[0]}"
        else:
            message = f"{where} has {len(everything)} problems:\n" + "\n".join(
                f"  - {line}" for line in everything
            )
        if self.found:
            raise ConfigurationError(message, details={"errors": everything})
        raise AccessDeniedError(message, details={"errors": everything, "action": "SELECT"})


def rules_of(config: SourceConfig, rules: ReferenceRules, key_prefixes: Sequence[str]) -> ReferenceRules:
    """Return `rules` with what the column and its source add."""
    return replace(
        rules,
        key_prefixes=tuple(dict.fromkeys((*rules.key_prefixes, *key_prefixes))),
        derivatives=tuple(dict.fromkeys((*rules.derivatives, *config.derivatives))),
    )


def query_obstacle(columns: Sequence[ColumnSpec]) -> str:
    """Return why exact keys cannot be asked for, or "" when they can."""
    if not columns:
        return "no column is declared"
    for column in columns:
        if column.kind == "template":
            return f"{column.label} is a template"
        if column.format is not ReferenceFormat.KEY:
            return f"{column.label} has format {column.format.value}, not key"
    return ""


def key_spellings(keys: Iterable[str], rules: ReferenceRules) -> dict[str, list[str]]:
    """Return every value of a `format: key` column that names one of `keys`: value -> keys.

    ``k`` and ``/k``, and for each key prefix p of the column the rest r of ``k = p + r``, as ``r`` and ``/r``.
    """
    wanted: dict[str, list[str]] = {}
    for key in keys:
        rests = {key}
        for prefix in rules.key_prefixes:
            for start in {prefix, prefix.lstrip("/"), prefix.strip("/") + "/"}:
                if start and key.startswith(start):
                    rests |= {key[len(start) :], key[len(start) :].lstrip("/")}
        for rest in rests - {""}:
            wanted.setdefault(rest, []).append(key)
            wanted.setdefault("/" + rest, []).append(key)
    return wanted


def byte_spellings(value: str) -> set[bytes]:
    """Return every byte string that a reader would take for `value`: its encodings, and what it is in hex.

    The reverse of how bytes become text in `references.reader`.
    """
    found = {value.encode("utf-8", "surrogateescape")}
    for codec in ("latin-1", "utf-16-le", "utf-16-be"):
        try:
            found.add(value.encode(codec))
        except UnicodeEncodeError:
            pass
    digits = value.removeprefix("\\x").replace("-", "")
    try:
        found.add(bytes.fromhex(digits))
    except ValueError:
        pass
    return found - {b""}


def one_statement(sql: str) -> str:
    """Return the policy's SQL without its final semicolon, ready to stand in parentheses on lines of its own."""
    return sql.strip().rstrip(";").rstrip()


def capture_address(
    config: SourceConfig, backend: CDCBackend, schemes: Sequence[str], product: str
) -> Address:
    """Return where changes are captured: `cdc.url`, else the database's own. ConfigurationError for another kind."""
    cdc = config.cdc
    url = cdc.url.get_secret_value() if cdc is not None and cdc.url is not None else config.connection_url
    address = parse_url(url, config.name)
    if (cdc is not None and cdc.backend is not backend) or address.scheme.partition("+")[0] not in schemes:
        raise ConfigurationError(
            f"source {config.name!r} ({config.location}): this is {product}, so cdc.backend is {backend.value}, and "
            f"cdc.url begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        )
    return address


def own_sql(config: SourceConfig) -> tuple[str, ...]:
    """Return the policy's own SQL that may read other tables than the declared ones: its queries, and every `where`
    with a subquery. Whoever writes those tables can make a row count as a reference without touching it."""
    conditions = (table.where for table in config.tables if table.where and _SUBQUERY.search(table.where))
    return tuple(one_statement(sql) for sql in (*(query.sql for query in config.queries), *conditions))


def single_line(text: object, limit: int = 300) -> str:
    """Return a server's message on one line and not too long."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def bounded(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
