"""The join against brute force: whatever `extract` finds in any value, the join keeps.

Random keys of awkward characters, written into values in every way that applications write them, over
columns of every format, with derivatives, key prefixes, base URLs and prefix references; small chunks, so
that several matchers take turns. The brute force applies the full rules to every value and compares with
every key.
"""

from __future__ import annotations

import base64
import html
import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from tests.library.plan.tables import BUCKET, columns, config, keys_of, listing, spec

from s3gc.config import ReferenceFormat
from s3gc.plan.join import find_candidates
from s3gc.references.derivatives import derived_keys, parents
from s3gc.references.extract import extract
from s3gc.references.types import ColumnSpec, PrefixReference, ReferenceRules

LETTERS = "abcXYZ019-_./ +%&#?=()\u00e9\u5199\u0301'\"\\,;@~!$*:[]{}|\n\t\x07\u00a0"
BASES = (("https://cdn.example.com/img/", "media/"), ("/files/", ""))
OWN = f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/"


def random_key(rng: random.Random) -> str:
    length = rng.randint(1, 18)
    stem = "".join(rng.choice(LETTERS if rng.random() < 0.3 else "abcdefgh0123456789") for _ in range(length))
    folder = rng.choice(["", "d/", "d/e/", "media/", "store/", f"hls/{rng.randint(1, 30)}/", "\u00e9/"])
    key = folder + stem + rng.choice([".jpg", ".jpg", ".tar.gz", "", "."])
    return key if rng.random() < 0.5 else unicodedata.normalize(rng.choice(["NFC", "NFD"]), key)


SPELLINGS: list[Callable[[str], str]] = [
    lambda k: k,
    lambda k: k,
    lambda k: "/" + k,
    lambda k: f" {k}\n",
    lambda k: "./" + k,
    quote,
    lambda k: quote(quote(k)),
    lambda k: OWN + quote(k),
    lambda k: OWN + quote_plus(k, safe="/"),
    lambda k: OWN + quote(k) + "?X-Amz-Signature=ab#t=3",
    lambda k: f"https://s3.amazonaws.com/{BUCKET}/" + quote(k, safe=""),
    lambda k: f"http://minio:9000/{BUCKET}/" + quote(k),
    lambda k: f"https://{BUCKET}.minio:9000/" + quote(k),
    lambda k: f"s3://{BUCKET}/{k}",
    lambda k: f"S3A://{BUCKET}/{k}",
    lambda k: f"arn:aws:s3:::{BUCKET}/{k}",
    lambda k: "https://cdn.example.com/img/" + quote(k.removeprefix("media/")),
    lambda k: "//CDN.example.com/img/" + quote(k.removeprefix("media/")),
    lambda k: "cdn.example.com/img/" + k.removeprefix("media/"),
    lambda k: "/files/" + quote(k),
    lambda k: "https://app.example.org/files/" + quote(k),
    lambda k: k.removeprefix("store/"),
    lambda k: "https://any.example.org/a/b/" + quote(k) + "?v=1",
    lambda k: unicodedata.normalize("NFD", k),
    lambda k: unicodedata.normalize("NFC", k),
    lambda k: "https://i.example.com/_next/image?url=" + quote(OWN + quote(k), safe="") + "&w=1",
    lambda k: "https://i.example.com/x/plain/" + quote(f"s3://{BUCKET}/{k}", safe=""),
    lambda k: (
        "https://i.example.com/s/"
        + base64.urlsafe_b64encode(f"s3://{BUCKET}/{k}".encode()).decode().rstrip("=")
    ),
]
WRAPPERS: list[Callable[[str], object]] = [
    lambda v: v,
    lambda v: v,
    lambda v: v,
    lambda v: json.dumps({"a": v}),
    lambda v: json.dumps([1, {"b": v}], ensure_ascii=False),
    lambda v: json.dumps({"a": v}).replace("/", "\\/"),
    lambda v: json.dumps({"d": json.dumps({"u": v})}),
    lambda v: {"p": [v]},
    lambda v: f'<p>see <img src="{html.escape(v)}"> and</p>',
    lambda v: f"[text]({v}) and more, x;y",
    lambda v: f"{v},other.jpg",
    lambda v: '{"' + v.replace("\\", "\\\\").replace('"', '\\"') + '",NULL}',
    lambda v: v.encode(),
    lambda v: b"\xff\x00" + v.encode() + b"\x01",
]


def random_columns(rng: random.Random, keys: list[str]) -> list[tuple[ColumnSpec, list[object]]]:
    """Columns of every format whose values name about half of the keys."""
    given: list[tuple[ColumnSpec, list[object]]] = []
    for index, column_format in enumerate([*ReferenceFormat, ReferenceFormat.AUTO, ReferenceFormat.KEY]):
        rules = ReferenceRules(
            bucket=BUCKET,
            endpoint_hosts=frozenset({"minio"}),
            base_urls=BASES if rng.random() < 0.7 else (),
            key_prefixes=("store/",) if rng.random() < 0.5 else (),
            foreign_hosts=frozenset({"www.gravatar.com"}),
            derivatives=("{stem}_thumb{ext}", "resized/{key}", "{dir}s/{name}") if rng.random() < 0.5 else (),
        )
        values: list[object] = []
        for _ in range(60):
            value: object
            key = rng.choice(keys)
            if rules.derivatives and rng.random() < 0.2:
                key = min(parents(key, rules.derivatives), default=key)
            if rng.random() < 0.1:
                folder = f"hls/{rng.randint(1, 9)}/"
                value = rng.choice(
                    [PrefixReference(key[: 2 + len(key) // 2]), folder, "/" + folder, OWN + folder]
                )
            elif column_format is ReferenceFormat.PREFIX:
                value = rng.choice([f"hls/{rng.randint(1, 9)}", quote(key), OWN + quote(key)])
            elif column_format is ReferenceFormat.KEY:
                value = rng.choice([key, "/" + key, key, key.encode()])
            else:
                value = rng.choice(WRAPPERS)(rng.choice(SPELLINGS)(key))
            values.append(value)
        kind = "template" if any(isinstance(value, PrefixReference) for value in values) else "column"
        given.append((spec(f"t.c{index}", index=index, fmt=column_format, rules=rules, kind=kind), values))
    return given


def brute_force(keys: list[str], given: list[tuple[ColumnSpec, list[object]]]) -> dict[str, str]:
    """key -> why `extract` says that it is referenced, over every value and every key."""
    why: dict[str, str] = {}
    for column, values in given:
        templates = column.rules.derivatives
        for value in values:
            meaning = extract(value, column.format, column.rules)
            prefixes = tuple(prefix for prefix in meaning.prefixes if prefix)
            named = meaning.keys | {made for key in meaning.keys for made in derived_keys(key, templates)}
            for key in keys:
                family = {key} | (parents(key, templates) if templates and prefixes else set())
                if key in named or (prefixes and any(one.startswith(prefixes) for one in family)):
                    why.setdefault(key, f"{column.format} {column.rules} {value!r}")
    return why


@pytest.mark.parametrize("seed", range(8))
async def test_the_join_keeps_everything_that_the_full_rules_find(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    keys = sorted({random_key(rng) for _ in range(400)} - {""})
    for key in rng.sample(keys, 60):
        keys += derived_keys(key, ("{stem}_thumb{ext}", "resized/{key}", "{dir}s/{name}"))
    keys = sorted(set(keys))
    given = random_columns(rng, keys)
    found = await find_candidates(
        listing(tmp_path, keys),
        await columns(tmp_path, *given),
        config=config(),
        work=tmp_path / "join",
        chunk_keys=rng.choice([50, 250_000]),
        sample_values=rng.choice([20, 50_000]),
    )
    candidates = set(keys_of(found.candidates))
    why = brute_force(keys, given)
    lost = {key: why[key] for key in candidates & why.keys()}
    assert not lost, "\n".join(f"{key!r} <- {reason}" for key, reason in list(lost.items())[:5])
    # Not a promise, but a check that the fuzz can fail: most keys that nothing names are candidates.
    judged = found.counts.judged
    unnamed = judged - sum(1 for key in why if "//" not in key)
    assert len(candidates) > 0.5 * unnamed
    assert len(candidates) > 20
