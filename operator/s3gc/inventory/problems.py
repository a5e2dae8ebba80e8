"""Which listed keys must never be acted on, and why: decided column by column, no Python per key.

Stores resolve `/a`, `a//b` and `a/./b` to other objects, proxies and SDKs tidy them on the way, and a U+FFFD
may stand for any character (measured: facts on keys, "aliases"). Deleting by such a name can hit a different
object, so these stay, with the reason in the `problem` column.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from s3gc.store.entries import data_of
from s3gc.store.keys import INVALID_UTF8

__all__ = ["INVENTORY_SCHEMA", "REASONS", "with_problems"]

MAX_KEY_BYTES = 1024

#: Reason -> RE2 pattern; the first that matches names the problem. Length and UTF-8 are looked at on their own.
REASONS: dict[str, str] = {
    "not UTF-8": "^" + INVALID_UTF8.replace("(", r"\(").replace(")", r"\)"),
    "contains U+FFFD": "\ufffd",
    "starts with '/'": "^/",
    "ends with '/'": "/$",
    "has an empty segment": "//",
    "has a '.' or '..' segment": r"(?:^|/)\.\.?(?:/|$)",
}
TOO_LONG = f"longer than {MAX_KEY_BYTES} bytes"
#: What a key with a problem has somewhere, at its beginning, or at its end; many a key without one has it too.
_SUSPICIOUS = ("\ufffd".encode(), b"//", b"/.")
_SUSPICIOUS_STARTS = ("/", ".")

INVENTORY_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("storage_class", pa.string(), nullable=False),
        pa.field("problem", pa.string()),
    ]
)


def with_problems(rows: pa.RecordBatch) -> pa.RecordBatch:
    """`rows` of OBJECTS_SCHEMA with the column `problem` added: null for a key that may be acted on."""
    return pa.RecordBatch.from_arrays([*rows.columns, problems(rows.column("key"))], schema=INVENTORY_SCHEMA)


def problems(keys: pa.StringArray) -> pa.StringArray:
    """For each key null, or why it must not be acted on."""
    too_long = pc.greater(pc.binary_length(keys), MAX_KEY_BYTES)
    if not too_long.true_count and not _is_suspicious(keys):
        return pa.nulls(len(keys), pa.string())
    # (?s) and (?-m): a newline inside a key is an ordinary character and no boundary.
    conditions = [pc.match_substring_regex(keys, f"(?s){pattern}") for pattern in REASONS.values()]
    named = pa.StructArray.from_arrays(
        [*conditions[:2], too_long, *conditions[2:]],
        names=[str(number) for number in range(len(conditions) + 1)],
    )
    reasons = list(REASONS)
    return pc.case_when(named, *reasons[:2], TOO_LONG, *reasons[2:]).cast(pa.string())


def _is_suspicious(keys: pa.StringArray) -> bool:
    """Whether any of `keys` may have a problem: a look at all of them at once, a third of the expressions' cost."""
    data = data_of(
        keys
    )  # one key after another: an end and a beginning together may look like a problem, never hide one
    return (
        any(part in data for part in _SUSPICIOUS)
        or any(pc.starts_with(keys, start).true_count for start in _SUSPICIOUS_STARTS)
        or bool(pc.ends_with(keys, "/").true_count)
    )
