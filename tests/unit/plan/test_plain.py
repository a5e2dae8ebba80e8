"""SQL against the full rules: a plain value means nothing that the first stage of the join did not compare."""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import Session, open_session, quoted
from s3gc.plan.hoststyles import hosts_of
from s3gc.plan.plain import is_plain, plain_keys
from s3gc.references.extract import extract
from s3gc.references.shapes import Shape, shapes_of
from s3gc.references.types import ReferenceRules

SEGMENTS = (
    "img", "img.", "img..", "imgs", "files", "my-bucket", "other", "media", "store", "lead", "p", "all", "k", "a", "w", "x",
    "b.c", "v1.2", "up-load", "w_300", "-", "_", "a-", "a_", "..", "cdn", "cdn.example.com", "a b", "a%20b", "a@b.c",
    "plain", "300x200", "x200", "12x", "fetch", "UPLOAD", "unsafe", "tr-x", "ipx", "_ipx", "cdn-cgi", "image",
    "0x6b2f612e6a7067", "x-0x6b2f612e6a7067", "YWI", "YWJj", "aHR0cHM6", "YWJjZGVm--0a1b2c",
    "d41d8cd98f00b204e9800998ecf8427e", "6f1c2b3a-0000-4000-8000-000000000000",
)  # fmt: skip
HOSTS = (
    "cdn.example.com", "CDN.Example.com:8080", "minio", "minio:9000", "my-bucket.minio", "x.my-bucket.minio",
    "my-bucket.s3.amazonaws.com", "MY-BUCKET.s3.amazonaws.com", "my-bucket.s3.eu-west-1.amazonaws.com",
    "my-bucket.s3-accelerate.dualstack.amazonaws.com", "my-bucket.more.s3.amazonaws.com",
    "my-bucket.bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com", "name-123.s3-accesspoint.us-east-1.amazonaws.com",
    "my-bucket.s3express-use1-az4.us-east-1.amazonaws.com", "s3.amazonaws.com", "s3.eu-west-1.amazonaws.com",
    "other.s3.amazonaws.com", "www.gravatar.com", "anything.example", "my-bucket", "my-bucket.example", "localhost", "a.b.",
)  # fmt: skip
BASES: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("https://cdn.example.com/img/", "media/"),),
    (("/files/", ""), ("/img", "p"), ("cdn.example.com", "x/")),
    (("https://cdn.example.com", "/lead/"), ("img", "")),
    (("media://files/", "m/"), ("/%69mg/", "i/"), ("https://cdn.example.com:8080/img/up", "")),
    (("/img.", ""), ("/img../", "d/"), ("https://minio/img/", "k/"), ("https://my-bucket.minio/", "")),
    (("", "all/"), ("//anything.example", "any")),
    (("https://s3.amazonaws.com/my-bucket/", "q/"), ("https://minio", "")),
    (("https://my-bucket.s3.amazonaws.com/img/", "z/"),),
)


def random_value(rng: random.Random) -> str:
    segments = [rng.choice(SEGMENTS) for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.2:
        data = (
            rng.randbytes(rng.randint(5, 16))
            if rng.random() < 0.5
            else b"k/" + rng.randbytes(4).hex().encode()
        )
        segments.append(base64.urlsafe_b64encode(data).decode().rstrip("="))
    value = "/".join(segments) + rng.choice(["", ".jpg", ".jpg", ".tar.gz", "."])
    scheme = rng.choice(["", "", "http://", "https://", "https://", "s3://"])
    return f"{scheme}{rng.choice(HOSTS)}/{value}" if scheme else value


def random_rules(rng: random.Random) -> ReferenceRules:
    endpoints, foreign = (
        ({"minio"}, {"minio", "my-bucket.minio"}),
        {"www.gravatar.com", "cdn.example.com", "minio"},
    )
    return ReferenceRules(
        bucket="my-bucket",
        endpoint_hosts=frozenset(rng.choice([set(), *endpoints])),
        foreign_hosts=frozenset(rng.choice([set(), foreign])),
        base_urls=rng.choice(BASES),
        key_prefixes=rng.choice([(), (), ("store",), ("/p/", "q-")]),
        derivatives=rng.choice([(), (), ("{stem}_thumb{ext}",)]),
    )


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_session(tmp_path_factory.mktemp("plain"), memory_limit_mb=256) as opened:
        yield opened


def relation(values: list[str]) -> str:
    """`values` as the join reads them."""
    shapes = shapes_of(pa.array(values, pa.string())).to_pylist()
    rows = (
        f"SELECT 0 AS col, {row} AS row, {quoted(value)} AS value, {shape} AS shape"
        for row, (value, shape) in enumerate(zip(values, shapes, strict=True))
    )
    return f"({' UNION ALL '.join(rows)})"


def compared(
    session: Session, values: list[str], rules: ReferenceRules, heads: dict[str, int] | None = None
) -> dict[int, set[str]]:
    """The keys of each plain value, without those of derivatives; what is not plain is not in it."""
    everything = relation(values)
    plain = f"(SELECT * FROM {everything} WHERE {is_plain(rules)})"
    keys: dict[int, set[str]] = {row: set() for (row,) in session.rows(f"SELECT row FROM {plain}")}
    query = plain_keys(plain, rules, hosts_of(session, everything, rules, heads))
    for row, key in session.rows(f"SELECT row, key FROM ({query}) WHERE NOT derived"):
        keys[row].add(key)
    return keys


def heads_of(values: list[str]) -> dict[str, int]:
    """The beginnings of the plain addresses among `values`, as the reader counts them."""
    shapes = shapes_of(pa.array(values, pa.string())).to_pylist()
    return Counter(
        "/".join(value.split("/")[:3]) + "/"
        for value, shape in zip(values, shapes, strict=True)
        if shape >= Shape.ADDRESS
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_plain_value_means_what_the_first_stage_compares_and_nothing_else(
    session: Session, seed: int
) -> None:
    rng = random.Random(seed)
    rules = random_rules(rng)
    of = rng.choice([ReferenceFormat.AUTO, ReferenceFormat.URL, ReferenceFormat.JSON, ReferenceFormat.TEXT])
    values = list({random_value(rng) for _ in range(400)})
    shapes = shapes_of(pa.array(values, pa.string())).to_pylist()
    found = compared(session, values, rules)
    for row, keys in found.items():
        value = values[row]
        meaning = extract(value, of, rules)
        assert not meaning.prefixes
        assert meaning.keys <= keys, (value, rules, meaning.keys - keys)
        if shapes[row] != Shape.OPTIONS:  # behind a proxy's options any end of the path is taken
            more = {key for key in keys - meaning.keys if not key.endswith(value)}
            assert not more, (value, rules, more)
    assert len(found) > 50
    heads = heads_of(values)
    assert compared(session, values, rules, heads) == found
    few = [value for value in values if "://" not in value or value.startswith(tuple(sorted(heads)[:8]))]
    assert compared(session, few, rules, heads_of(few)) == compared(session, few, rules)


@pytest.mark.parametrize(
    ("value", "bases"),
    [
        ("https://my-bucket.minio/plain/k/a.jpg", ()),
        ("https://my-bucket.minio/w/300x200/img/a.jpg", (("/img/", "p/"),)),
        ("https://cdn.example.com/img/fetch/k/a.jpg", (("https://cdn.example.com/img/", "p/"),)),
        ("img/a.jpg", (("/%69mg/", "i/"),)),
        ("https://other.example/img/a.jpg", (("https://cdn.example.com/%69mg/", "i/"),)),
        ("images/a.jpg", (("/img", ""), ("/images", "p"), ("media://x/", "m/"))),
    ],
)
def test_what_a_plain_value_means_is_compared(
    session: Session, value: str, bases: tuple[tuple[str, str], ...]
) -> None:
    rules = ReferenceRules(bucket="my-bucket", endpoint_hosts=frozenset({"minio"}), base_urls=bases)
    keys = compared(session, [value], rules)[0]
    assert extract(value, ReferenceFormat.AUTO, rules).keys <= keys
    assert "https://" in value or keys != {value}


def test_a_base_that_ends_inside_a_segment_leaves_no_dots_behind(session: Session) -> None:
    rules = ReferenceRules(bucket="my-bucket", base_urls=(("/img", "p/"),))
    assert compared(session, ["img../a", "img./a"], rules) == {}
    assert compared(session, ["imgs/a", "img.jpg"], rules) == {
        0: {"imgs/a", "s/a", "p/s/a"},
        1: {"img.jpg", ".jpg", "p/.jpg"},
    }


def share_of_plain(values: list[str]) -> float:
    return sum(shape != Shape.ODD for shape in shapes_of(pa.array(values)).to_pylist()) / len(values)


def test_ordinary_paths_are_plain() -> None:
    values = [
        "uploads/2024/07/d41d8cd98f00b204e9800998ecf8427e.jpg",
        "avatars/12345.png",
        "a",
        "img_0001.jpeg",
    ]
    values += [f"uploads/{hashlib.md5(str(number).encode()).hexdigest()}.jpg" for number in range(500)]
    assert share_of_plain(values) > 0.99


def test_ordinary_addresses_are_plain() -> None:
    digests = [hashlib.md5(str(number).encode()).hexdigest() for number in range(300)]
    hosts = ["my-bucket.s3.eu-west-1.amazonaws.com", "s3.amazonaws.com/my-bucket", "cdn.example.com/img"]
    assert (
        share_of_plain([f"https://{host}/uploads/2024/{digest}.jpg" for host in hosts for digest in digests])
        > 0.99
    )
