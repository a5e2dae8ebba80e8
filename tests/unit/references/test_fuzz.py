"""Random keys in the spellings that applications store: the full rules find them, the matcher loses none."""

from __future__ import annotations

import base64
import html
import json
import random
import time
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from s3gc.config import ReferenceFormat
from s3gc.references.derivatives import derived_keys, parents, splits
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec, PrefixReference, ReferenceRules

AUTO = ReferenceFormat.AUTO
ODD = "abcXYZ019-_./ +%&#?=()é写\u0301'\"\\,;@~!$*:[]{}|"
OWN = "https://my-bucket.s3.eu-west-1.amazonaws.com/"

SPELLINGS: list[Callable[[str], str]] = [
    lambda key: key,
    lambda key: "/" + key,
    lambda key: OWN + quote(key),
    lambda key: OWN + quote_plus(key, safe="/"),
    lambda key: "https://s3.amazonaws.com/my-bucket/" + quote(key, safe=""),
    lambda key: "https://minio:9000/my-bucket/" + quote(key) + "?X-Amz-Signature=ab",
    lambda key: "s3://my-bucket/" + key,
    lambda key: "arn:aws:s3:::my-bucket/" + key,
    lambda key: "https://any.example.org/" + quote(key) + "?v=1",
    lambda key: unicodedata.normalize("NFD", key),
    lambda key: "https://i.example/_next/image?url=" + quote(OWN + quote(key), safe="") + "&w=1",
    lambda key: "https://i.example/insecure/w:1/plain/" + quote("s3://my-bucket/" + key, safe=""),
    lambda key: (
        "https://i.example/sig/w:1/"
        + base64.urlsafe_b64encode(f"s3://my-bucket/{key}".encode()).decode().rstrip("=")
    ),
]
WRAPPINGS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: json.dumps({"a": text}),
    lambda text: json.dumps([1, {"b": text}], ensure_ascii=False),
    lambda text: json.dumps({"a": text}).replace("/", "\\/"),
    lambda text: f'<img src="{html.escape(text)}">',
    lambda text: json.dumps({"d": json.dumps({"u": text})}),
]


def _key(rnd: random.Random) -> str:
    middle = "".join(
        rnd.choice(ODD if rnd.random() < 0.35 else "abcdefgh0123456789") for _ in range(rnd.randint(3, 18))
    )
    return unicodedata.normalize("NFC", f"d/{middle}.jpg")


def test_twenty_thousand_spellings_of_random_keys_are_all_found() -> None:
    rnd = random.Random(20)
    rules = ReferenceRules("my-bucket")
    column = ColumnSpec("fuzz", 0, "value", AUTO, rules)
    for _ in range(20_000):
        key = _key(rnd)
        value = rnd.choice(WRAPPINGS)(rnd.choice(SPELLINGS)(key))
        assert key in extract(value, AUTO, rules).keys, (key, value)
        matcher = Matcher([key], [column])
        matcher.feed(column, [value])
        assert key in matcher.referenced, (key, value)


@pytest.mark.parametrize(
    ("template", "key", "derived"),
    [
        ("{stem}_thumb{ext}", "a/b.jpg", "a/b_thumb.jpg"),
        ("{stem}_thumb{ext}", "a/b_thumb.jpg", "a/b_thumb_thumb.jpg"),
        ("resized/{key}", "a/b.jpg", "resized/a/b.jpg"),
        ("{stem}.webp", "a/b.jpg", "a/b.webp"),
        ("thumbs/{name}", "a/b.jpg", "thumbs/b.jpg"),
        ("{dir}small/{name}", "a/b.jpg", "a/small/b.jpg"),
        ("{dir}.thumb.{name}", ".env", ".thumb..env"),
        ("{stem}@2x{ext}", "a/b", "a/b@2x"),
    ],
)
def test_what_was_made_of_a_referenced_object_is_kept(template: str, key: str, derived: str) -> None:
    assert derived_keys(key, [template]) == {derived}
    assert splits(derived, template)
    rules = ReferenceRules("my-bucket", derivatives=(template,))
    column = ColumnSpec("s", 0, "c", AUTO, rules)
    matcher = Matcher([derived], [column])
    matcher.feed(column, [OWN + quote(key)])
    assert derived in matcher.referenced


def test_a_parent_can_be_named_from_what_was_made_of_it() -> None:
    assert "a/b.jpg" in parents("a/b_thumb.jpg", ["{stem}_thumb{ext}"])
    assert parents("resized/a/b.jpg", ["resized/{key}"]) == {"a/b.jpg"}


def test_prefix_references_keep_what_lies_under_them_and_nothing_else() -> None:
    rules = ReferenceRules("my-bucket")
    column = ColumnSpec("s", 0, "c", AUTO, rules)
    matcher = Matcher(["hls/1/a.ts", "hls/12/a.ts", "hls/1"], [column])
    matcher.feed(column, [PrefixReference("hls/1/")])
    assert set(matcher.referenced) == {"hls/1/a.ts"}
    matcher.feed(column, [PrefixReference("")])
    assert set(matcher.referenced) == {"hls/1/a.ts"}


@pytest.mark.parametrize(
    "value",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "%25" * 100_000,
        "&amp;" * 100_000,
        "\\" * 100_000,
        "a/" * 100_000,
        "'" * 100_000,
        "= " * 100_000,
        "http://" * 20_000,
    ],
    ids=lambda value: value[:8],
)
def test_hostile_values_end_soon(value: str) -> None:
    began = time.process_time()
    extract(value, AUTO, ReferenceRules("my-bucket"))
    assert time.process_time() - began < 20
