"""Which listed keys must never be acted on, and why: decided column by column, no Python per key.

Stores resolve `/a`, `a//b` and `a/./b` to other objects, proxies and SDKs tidy them on the way, and a U+FFFD
may stand for any character (measured: facts on keys, "aliases"). Deleting by such a name can hit a different
object, so these stay, with the reason in the `problem` column.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

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
#: RE2, in one pass over all keys: every key with one of these problems matches, and a few without one.
_SUSPICIOUS = "^/|/$|//|(?:^|/)[.]|\ufffd"

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
    none = pa.nulls(len(keys), pa.string())
    too_long = pc.greater(pc.binary_length(keys), MAX_KEY_BYTES)
    suspects = pc.or_(too_long, pc.match_substring_regex(keys, _SUSPICIOUS))
    if not suspects.true_count:
        return none
    return pc.replace_with_mask(none, suspects, _named(keys.filter(suspects)))


def _named(keys: pa.StringArray) -> pa.StringArray:
    # (?s) and (?-m): a newline inside a key is an ordinary character and no boundary.
    conditions = [pc.match_substring_regex(keys, f"(?s){pattern}") for pattern in REASONS.values()]
    too_long = pc.greater(pc.binary_length(keys), MAX_KEY_BYTES)
    named = pa.StructArray.from_arrays(
        [*conditions[:2], too_long, *conditions[2:]],
        names=[str(number) for number in range(len(conditions) + 1)],
    )
    reasons = list(REASONS)
    return pc.case_when(named, *reasons[:2], TOO_LONG, *reasons[2:]).cast(pa.string())
