"""SQL against Python: what SQL derives from a key is exactly what the templates make of it."""

from __future__ import annotations

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.config import ReferenceFormat
from s3gc.plan.derived import derived_keys_sql
from s3gc.plan.duck import quoted
from s3gc.plan.spellings import exact_keys, hosts_in, is_declared_host
from s3gc.references.derivatives import derived_keys
from s3gc.references.extract import extract
from s3gc.references.shapes import shapes_of
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
    shape = shapes_of(pa.array([value]))[0].as_py()
    values = f"(SELECT 0 AS col, 0 AS row, {quoted(value)} AS value, {shape} AS shape)"
    found = {row[2] for row in duckdb.sql(exact_keys(values, rules)).fetchall()}
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
