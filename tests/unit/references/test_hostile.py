"""Values made to cost time: read in proportion to their length, and a key in them is found all the same."""

from __future__ import annotations

import base64
import json
import random
import time

import pytest

from s3gc.config import ReferenceFormat
from s3gc.references import reading
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec, ReferenceRules

from .spelled import RULES, random_key, random_way
from .vectors import load

SIZE = 200_000
#: Seconds of the processor. With all of SIZE each takes a tenth of this, and what is not linear ten times as much.
PATIENCE = 200.0
KEY = "planted/the key é.jpg"


def column(column_format: ReferenceFormat, rules: ReferenceRules = RULES) -> ColumnSpec:
    return ColumnSpec("shop", 0, "public.t.c", column_format, rules)


@pytest.fixture
def little_free_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every value may cost, however short it is, only makes these tests slow."""
    monkeypatch.setattr(reading, "_FREE_WORK", 200_000)


AUTO = column(ReferenceFormat.AUTO)
COLUMNS = [column(each) for each in ReferenceFormat if each is not ReferenceFormat.KEY]


def _mixed(parts: list[str]) -> str:
    rng = random.Random(3)
    return "".join(rng.choice(parts) for _ in range(SIZE // 4))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


REPEATED = (
    *"[](){}<>\"'`\\/.,;:|&%=?#+-_~@ \n\t\u200bé😀\u0301写Ã",
    *("[{(<", "\"'", '\\"', "()", "(a)", "{a,", "[[a]]", "<a ", '="', "a=b&", "a: b= ", "- ", "a,", "abc.jpg,"),
    *("%25", "%2525", "%E9", "%C3%A9", "%u00e9", "%2Fa", "+%20"),
    *("\\n", "\\u00e9", "\\\\u00e9", "\\x41", "\\101", "a\\", "\\/", "\\\\", "a/\\"),
    *("&amp;", "&amp;amp;", "&#233;", "&#x2", "&a", "&eacute", "&quot;"),
    *("./", "../", "a/", "a/../", "//a", "a.b", ".jpg", "a.com/", "videos/abc/ ", "a\\b\\c\\", "x/my-bucket/"),
    *("http:", "://", "http://", "s3:/", "arn:aws:s3:::", "?url=http://a/", "/plain/http:/", "@png/", "a data:,", "a blob:"),
    *("https://a.example.org/b.jpg ", "https://a.example.org/b.jpg,", "https://a.example.org/b.jpg"),
    *("abcdefgh", "0123456789", "0x", "0x4141 ", "X'41'", "=3D", "a=\n", "e\u0301", "Ã©", "a\x00", "写，。"),
    *("550e8400-e29b-41d4-a716-446655440000", "QUJDREVGR0hJSktM", 's:5:"a.jpg";', 's:99999:"', "a:1:{"),
)  # fmt: skip

HOSTILE = {
    **{repr(part): part * (SIZE // len(part)) for part in REPEATED},
    "brackets, closed": "[" * (SIZE // 2) + "]" * (SIZE // 2),
    "objects, closed": '{"a":' * (SIZE // 6) + "1" + "}" * (SIZE // 6),
    "base64 of random bytes": base64.b64encode(random.Random(1).randbytes(SIZE * 3 // 4)).decode(),
    "base64 of text": _base64("https://a.example.org/b.jpg " * (SIZE // 40)),
    "lines of base64": "\n".join(_base64(f"https://a.example.org/{n}.jpg") for n in range(SIZE // 40)),
    "segments of base64": "/".join(_base64(f"https://a.example.org/{n}.jpg") for n in range(SIZE // 40)),
    "different URLs": " ".join(f"https://h{n}.example.org/a/{n}.jpg" for n in range(SIZE // 32)),
    "hex of random bytes": "0x" + random.Random(2).randbytes(SIZE // 2).hex(),
    "JSON of many paths": json.dumps([f"d{n}/f{n}.jpg" for n in range(SIZE // 18)]),
    "punctuation at random": _mixed(list("ab/.%25\\\"'&;,[]{}()<> \n:=+é?#")),
    "encodings at random": _mixed(["%25", "\\u00e9", "&amp;", '\\"', "a/b.jpg", " ", "%E9", "&#39;", "=3D"]),
}  # fmt: skip


@pytest.mark.parametrize("size", [SIZE // 10, pytest.param(SIZE, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("little_free_work")
def test_time_is_in_proportion_to_the_length_and_a_key_beside_it_is_found(name: str, size: int) -> None:
    value = HOSTILE[name][:size]
    begun = time.process_time()
    for given in (f"{KEY}\n{value}", f"{value}\n{KEY}\n"):
        matcher = Matcher([KEY, "another/key.bin"], [AUTO])
        matcher.feed(AUTO, [given])
        assert set(matcher.referenced) == {KEY}
    document = json.dumps({"a": value, "dir": "planted/", "z": value[: size // 8]})
    matcher = Matcher([KEY, "another/key.bin"], [AUTO])
    matcher.feed(AUTO, [document])
    assert set(matcher.referenced) == {KEY}, "under a folder"
    assert time.process_time() - begun < PATIENCE


@pytest.mark.parametrize("spec", COLUMNS, ids=lambda spec: spec.format.value)
@pytest.mark.usefixtures("little_free_work")
def test_every_format_ends(spec: ColumnSpec) -> None:
    begun = time.process_time()
    for value in HOSTILE.values():
        extract(value[:4_000], spec.format, spec.rules)
    assert time.process_time() - begun < PATIENCE


@pytest.mark.parametrize("free", [0, 2_000])
def test_a_value_that_is_not_read_to_its_end_keeps_all_that_the_rules_find(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """As if every value were too large: whatever is cut short, no key is lost by it."""
    monkeypatch.setattr(reading, "_FREE_WORK", free)
    monkeypatch.setattr(reading, "_WORK_A_CHARACTER", 0)
    rng = random.Random(free)
    lost = []
    for _ in range(2_000):
        key = random_key(rng)
        name, value = random_way(rng, key)
        matcher = Matcher([key], [AUTO])
        matcher.feed(AUTO, [value])
        if key not in matcher.referenced:
            lost.append((name, key, value))
    for vector in load():
        if vector.format in (ReferenceFormat.KEY, ReferenceFormat.PREFIX):
            continue
        spec = column(vector.format, vector.rules)
        prefixes = vector.expected.get("must_prefixes", ())
        for key in [*vector.expected["must"], *(f"{prefix}deep/object.ts" for prefix in prefixes)]:
            matcher = Matcher([key], [spec])
            matcher.feed(spec, [vector.value])
            if key not in matcher.referenced:
                lost.append((vector.name, key, vector.value))
    assert not lost, f"{len(lost)} lost, such as {lost[:5]}"


def test_a_page_of_many_signed_addresses_keeps_each_of_them() -> None:
    keys = [f"photos/{number:04d}.jpg" for number in range(600)]
    page = "".join(
        f'<p class="a">Caf&eacute; {number}</p><img src="https://i.example.com/x/{_base64("s3://my-bucket/" + key)}">'
        for number, key in enumerate(keys)
    )
    matcher = Matcher([*keys, "photos/none.jpg"], [AUTO])
    matcher.feed(AUTO, [page])
    assert set(matcher.referenced) == set(keys)


def test_a_value_cut_short_does_not_keep_what_it_does_not_name(monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"body": '<p>Some <b>words</b> and <img src="uploads/7.jpg"/></p>', "at": "uploads/8.jpg"}
    value = json.dumps(page)
    monkeypatch.setattr(reading, "_FREE_WORK", len(value) + 65)  # enough to see what kind of document it is
    monkeypatch.setattr(reading, "_WORK_A_CHARACTER", 0)
    matcher = Matcher(["uploads/7.jpg", "uploads/8.jpg", "uploads/9.jpg"], [AUTO])
    matcher.feed(AUTO, [value])
    assert set(matcher.referenced) == {"uploads/7.jpg", "uploads/8.jpg"}
