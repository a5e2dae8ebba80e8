"""SQL against Python: what SQL derives from a key is exactly what the templates make of it."""

from __future__ import annotations

import base64
import hashlib

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.config import ReferenceFormat
from s3gc.plan.duck import quoted
from s3gc.plan.spellings import cheap_keys, derived_keys_sql, hosts_in, is_declared_host, settled
from s3gc.references.derivatives import derived_keys
from s3gc.references.extract import extract
from s3gc.references.types import ReferenceRules

TEMPLATES = (
    "{stem}_thumb{ext}",
    "resized/{key}",
    "{dir}small/{name}",
    "thumbs/{name}",
    "{{x}}'{stem}",
    "{ext}",
)
KEYS = st.text(st.sampled_from("ab.-_/é\n '\"写"), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(KEYS)
def test_derived_keys_in_sql_are_those_of_the_templates(key: str) -> None:
    made = duckdb.sql(
        f"SELECT unnest([{', '.join(derived_keys_sql('k', TEMPLATES))}]) FROM (SELECT {quoted(key)} AS k)"
    )
    assert {row[0] for row in made.fetchall()} == derived_keys(key, TEMPLATES)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab./ \t\n%2é+?#\x01"), max_size=10), st.booleans())
def test_a_column_of_exact_keys_means_in_sql_all_that_the_full_rules_make_of_it(
    value: str, prefixed: bool
) -> None:
    rules = ReferenceRules(
        bucket="my-bucket", key_prefixes=("p/",) if prefixed else (), derivatives=TEMPLATES[:3]
    )
    values = f"(SELECT 0 AS col, 0 AS row, {quoted(value)} AS value)"
    found = {row[2] for row in duckdb.sql(cheap_keys(values, ReferenceFormat.KEY, rules)).fetchall()}
    keys = extract(value, ReferenceFormat.KEY, rules).keys
    assert keys | {made for key in keys for made in derived_keys(key, rules.derivatives)} <= found


def test_hosts_are_found_in_any_text_without_user_port_and_case() -> None:
    text = 'see https://User:pw@CDN.Example.com:8443/a, //b.example/x "http:\\/\\/c.example\\/y" a//b c://d'
    ((hosts,),) = duckdb.sql(f"SELECT {hosts_in('v')} FROM (SELECT {quoted(text)} AS v)").fetchall()
    assert {"cdn.example.com", "b.example", "c.example"} <= set(hosts)


def test_declared_hosts_are_buckets_endpoints_bases_and_foreign_ones() -> None:
    rules = ReferenceRules(
        bucket="my-bucket",
        endpoint_hosts=frozenset({"minio.internal"}),
        base_urls=(("https://CDN.example.com:443/img/", ""), ("/files/", "")),
        foreign_hosts=frozenset({"www.gravatar.com"}),
    )
    declared = [
        "my-bucket.s3.amazonaws.com",
        "s3.eu-west-1.amazonaws.com",
        "minio.internal",
        "my-bucket.minio.internal",
        "cdn.example.com",
        "www.gravatar.com",
    ]
    assert all(is_declared_host(host, rules) for host in declared)
    assert not any(is_declared_host(host, rules) for host in ("example.com", "xs3.amazonaws.org", "files"))


SEGMENTS = st.one_of(
    st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCZ0123456789_.-"), min_size=1, max_size=12),
    st.sampled_from(
        [
            "img",
            "files",
            "uploads",
            "cdn.example.com",
            "a.jpg",
            "..",
            ".",
            "plain",
            "w_300",
            "300x200",
            "my-bucket",
            "other",
        ]
    ),
    st.binary(min_size=5, max_size=16).map(lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")),
    st.sampled_from(["s3://my-bucket/k/a.jpg", "k/a.jpg", '{"key":"k"}', "héllo/wörld.jpg", "://x"]).map(
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    ),
    st.uuids().map(str),
    st.uuids().map(lambda value: value.hex),
    st.binary(min_size=16, max_size=32).map(bytes.hex),
)
HOSTS = st.sampled_from(
    [
        "cdn.example.com",
        "CDN.Example.com:8080",
        "minio",
        "minio:9000",
        "my-bucket.minio",
        "my-bucket.s3.amazonaws.com",
        "my-bucket.s3.eu-west-1.amazonaws.com",
        "my-bucket.s3-accelerate.dualstack.amazonaws.com",
        "my-bucket.more.s3.amazonaws.com",
        "my-bucket.bucket.vpce-1a-2b.s3.us-east-1.vpce.amazonaws.com",
        "name-123.s3-accesspoint.us-east-1.amazonaws.com",
        "my-bucket.s3express-use1-az4.us-east-1.amazonaws.com",
        "s3.amazonaws.com",
        "s3.eu-west-1.amazonaws.com",
        "other.s3.amazonaws.com",
        "www.gravatar.com",
        "anything.example",
        "localhost",
        "a.b.",
    ]
)
JOINED = st.lists(SEGMENTS, min_size=1, max_size=7).map("/".join)
PATHS = st.one_of(
    SEGMENTS,
    JOINED,
    st.tuples(
        st.sampled_from(["http", "https", "s3"]), HOSTS, st.sampled_from(["", "/my-bucket", "/img"]), JOINED
    ).map(lambda parts: f"{parts[0]}://{parts[1]}{parts[2]}/{parts[3]}"),
)
RULES = st.builds(
    ReferenceRules,
    bucket=st.just("my-bucket"),
    endpoint_hosts=st.sampled_from(
        [frozenset(), frozenset({"minio"}), frozenset({"minio", "my-bucket.minio"})]
    ),
    foreign_hosts=st.sampled_from([frozenset(), frozenset({"www.gravatar.com", "cdn.example.com"})]),
    base_urls=st.sampled_from(
        [
            (),
            (("https://cdn.example.com/img/", "media/"),),
            (("/files/", ""), ("/img", "p"), ("cdn.example.com", "x/")),
            (("https://cdn.example.com", "/lead/"), ("img", "")),
        ]
    ),
    key_prefixes=st.sampled_from([(), ("store",), ("/p/", "q-")]),
    derivatives=st.sampled_from([(), ("{stem}_thumb{ext}",), ("{key}/",)]),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=40), RULES, st.sampled_from(["auto", "url", "json", "text"]))
def test_a_settled_value_means_nothing_that_the_first_stage_did_not_compare(
    values: list[str], rules: ReferenceRules, name: str
) -> None:
    column_format = ReferenceFormat(name)
    listed = " UNION ALL ".join(
        f"SELECT 0 AS col, {number} AS row, {quoted(value)} AS value" for number, value in enumerate(values)
    )
    condition = settled("value", column_format, rules)
    done = {row for (row,) in duckdb.sql(f"SELECT row FROM ({listed}) WHERE {condition}").fetchall()}
    compared: dict[int, set[str]] = {}
    for _, row, key, _ in duckdb.sql(cheap_keys(f"({listed})", column_format, rules)).fetchall():
        compared.setdefault(row, set()).add(key)
    for row in done:
        meaning = extract(values[row], column_format, rules)
        assert not meaning.prefixes
        assert meaning.keys <= compared[row], (values[row], meaning.keys - compared[row])


def test_ordinary_paths_are_settled() -> None:
    plain = [
        "uploads/2024/07/d41d8cd98f00b204e9800998ecf8427e.jpg",
        "avatars/12345.png",
        "a",
        "img_0001.jpeg",
    ]
    plain += [f"uploads/{hashlib.md5(str(number).encode()).hexdigest()}.jpg" for number in range(500)]
    listed = ", ".join(f"({quoted(value)})" for value in plain)
    condition = settled("value", ReferenceFormat.AUTO, ReferenceRules(bucket="my-bucket"))
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM (VALUES {listed}) t(value) WHERE {condition}").fetchall()
    assert count > 0.95 * len(plain)


def test_ordinary_addresses_are_settled() -> None:
    digests = [hashlib.md5(str(number).encode()).hexdigest() for number in range(300)]
    hosts = ["my-bucket.s3.eu-west-1.amazonaws.com", "s3.amazonaws.com/my-bucket", "cdn.example.com/img"]
    plain = [f"https://{host}/uploads/2024/{digest}.jpg" for host in hosts for digest in digests]
    listed = ", ".join(f"({quoted(value)})" for value in plain)
    condition = settled("value", ReferenceFormat.AUTO, ReferenceRules(bucket="my-bucket"))
    ((count,),) = duckdb.sql(f"SELECT count(*) FROM (VALUES {listed}) t(value) WHERE {condition}").fetchall()
    assert count > 0.9 * len(plain)
