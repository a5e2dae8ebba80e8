"""What could a value mean? Every key, read generously: one too many keeps an orphan, one too few loses a file.

The front of the extractor; the walk itself is in `reading`. The rules are listed in docs/references.md, and
tests/vectors/references.json has a case for each.
"""

from __future__ import annotations

from s3gc.config import ReferenceFormat
from s3gc.references.reading import Reading
from s3gc.references.types import Extraction, ReferenceRules
from s3gc.references.urls import compiled

__all__ = ["extract"]


def extract(value: object, column_format: ReferenceFormat, rules: ReferenceRules) -> Extraction:
    """Return every key and prefix that `value` could mean; see `Extraction`. Never raises for any value.

    Text, bytes, numbers, UUIDs, `PrefixReference`s and nested containers of them are read; None and blank text
    mean nothing. Keys are 1 to 1,024 bytes of UTF-8; prefixes are never empty and never mean the whole bucket.
    Derivatives are not made here: see `derivatives.derived_keys`. The result is held in memory: of a document of
    megabytes ask with `matcher.Matcher`, which only keeps what is wanted.
    """
    out = Extraction()
    reading = Reading(column_format, compiled(rules), out.keys.add, out.prefixes.add)
    reading.value(value)
    out.undeclared_hosts = reading.undeclared_hosts
    out.other_bucket = len(reading.other_bucket)
    out.foreign = len(reading.foreign)
    out.ignored = reading.ignored
    found = out.prefixes if column_format is ReferenceFormat.PREFIX else out.keys or out.prefixes
    explained = found or out.ignored or out.foreign or out.other_bucket
    out.unparsed = not reading.is_empty and (reading.is_doubtful or not explained)
    return out
