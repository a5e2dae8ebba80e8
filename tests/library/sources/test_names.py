"""How a policy's names, templates, ignored columns and URLs are read, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3gc.config import SourceConfig
from s3gc.exceptions import ConfigurationError
from s3gc.references.sources import open_source
from s3gc.references.sources.identifiers import Dialect, find_column, find_table, readings
from s3gc.references.sources.ignored import IgnoredColumns
from s3gc.references.sources.planning import byte_spellings, key_spellings
from s3gc.references.sources.postgres_copy import unescape
from s3gc.references.sources.templates import parse_template
from s3gc.references.sources.urls import parse_url
from s3gc.references.types import PrefixReference, ReferenceRules

PG = Dialect(quotes={'"': '"'}, folds_to_lower=True)
MY = Dialect(quotes={"`": "`", '"': '"'}, folds_to_lower=False)


@given(
    st.text(min_size=1).filter(lambda text: "\0" not in text),
    st.text(min_size=1).filter(lambda text: "\0" not in text),
)
def test_a_quoted_name_is_found_whatever_it_holds(schema: str, table: str) -> None:
    catalog = {(schema, table): 1, ("public", "users"): 2}
    assert (
        find_table(f"{PG.quote(schema)}.{PG.quote(table)}", catalog, ["public"], "db", PG).value is not None
    )


@given(
    st.text(min_size=1).filter(
        lambda text: (
            text.strip(".")
            and not text.startswith('"')
            and ".." not in text
            and text[0] != "."
            and text[-1] != "."
        )
    )
)
def test_a_bare_name_is_found_exactly_as_it_is_written(table: str) -> None:
    assert find_table(table, {("public", table): 1}, ["public"], "db", PG).value == 1
    assert find_table(f"public.{table}", {("public", table): 1}, [], "db", PG).value == 1
    assert find_column(table, {table: 1}, "t", MY).value == 1


def test_a_dotted_name_is_read_every_way_it_can_be() -> None:
    assert [[part.text for part in reading] for reading in readings('a."b.c".d', PG)][:2] == [
        ["a", "b.c", "d"],
        ["a", '"b.c".d'],
    ]


def test_a_database_in_front_must_be_the_one_of_the_url() -> None:
    catalog = {("public", "users"): 1}
    assert find_table("shop.public.users", catalog, [], "shop", PG).value == 1
    assert find_table("other.public.users", catalog, [], "shop", PG).value is None


def test_case_is_folded_as_the_database_does() -> None:
    assert find_table("Users", {("public", "users"): 1}, ["public"], "db", PG).value == 1
    assert find_table('"Users"', {("public", "users"): 1}, ["public"], "db", PG).value is None
    assert find_table("USERS", {("db", "Users"): 1}, ["db"], "db", MY).value == 1
    both = {("db", "Users"): 1, ("db", "users"): 2}
    assert find_table("users", both, ["db"], "db", MY).value == 2


@pytest.mark.parametrize(
    ("template", "row", "key", "is_prefix"),
    [
        ("a/{x}.jpg", ["1"], "a/1.jpg", False),
        ("a/{x}.jpg", [None], "a/", True),
        ("a/{x}-{y}.jpg", ["1", None], "a/1-", True),
        ("{x:lower}{x:upper}", ["Ab"], "abAB", False),
        ("{x:nodash|upper}", ["a-b"], "AB", False),
        ("{x:basename}", ["c/d/e.png"], "e.png", False),
        ("{x:idpart}", ["7"], "000/000/007", False),
        ("{x:idpart}", ["1234567890"], "001/234/567/890", False),
        ("{x:idpart}", ["abcdefghijkl"], "abc/def/ghi", False),
        ("{{{x}}}", ["1"], "{1}", False),
    ],
)
def test_a_template_composes(template: str, row: list[str | None], key: str, is_prefix: bool) -> None:
    parsed, problems = parse_template(template)
    assert parsed is not None
    assert problems == []
    found = parsed.compose(row)
    assert (found, isinstance(found, PrefixReference)) == (key, is_prefix)


def test_a_template_with_unknown_filters_and_conversions_says_all_of_it() -> None:
    parsed, problems = parse_template("{a:shout}/{b!r}")
    assert parsed is None
    assert len(problems) == 2


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("public.users.bio", True), ("users.bio", True), ("users.*", True), ("public.users.*", True), ("Users.Bio", True),
        ('"users"."bio"', True), ('"Users".bio', False), ("user.bio", False), ("other.users.bio", False), ("*.bio", False), ("bio", False),
    ],
)  # fmt: skip
def test_an_ignored_column_is_named_in_four_ways(pattern: str, covered: bool) -> None:
    assert IgnoredColumns([pattern], PG).covers("public", "users", "bio") is covered


def test_key_spellings_follow_key_prefixes() -> None:
    rules = ReferenceRules(bucket="b", key_prefixes=("media/",))
    assert set(key_spellings(["media/a.jpg"], rules)) == {"media/a.jpg", "/media/a.jpg", "a.jpg", "/a.jpg"}
    assert key_spellings(["a", "a"], ReferenceRules(bucket="b"))["a"] == ["a", "a"]


@pytest.mark.parametrize(
    ("key", "stored"),
    [
        ("a.jpg", b"a.jpg"), ("é.jpg", "é.jpg".encode()), ("é.jpg", b"\xe9.jpg"), ("a", b"a\0"), ("00ff", b"\x00\xff"),
        ("\\x00ff", b"\x00\xff"), ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11")),
    ],
)  # fmt: skip
def test_bytes_that_a_reader_takes_for_a_key_are_asked_for(key: str, stored: bytes) -> None:
    from s3gc.references.reader import texts_of

    assert key in texts_of(stored)
    assert stored in byte_spellings(key)


@given(st.text())
def test_copy_s_escapes_are_undone(text: str) -> None:
    escaped = text.replace("\\", "\\\\")
    for character, letter in (("\b", "b"), ("\f", "f"), ("\n", "n"), ("\r", "r"), ("\t", "t"), ("\v", "v")):
        escaped = escaped.replace(character, "\\" + letter)
    assert unescape(escaped) == text


@pytest.mark.parametrize(
    ("url", "user", "password", "host", "port", "database"),
    [
        ("postgresql://u:p@h:1/d", "u", "p", "h", 1, "d"),
        ("postgresql://u:p%40%2F@h/d?sslmode=require", "u", "p@/", "h", 0, "d"),
        ("postgresql://u:p@ss@h/d", "u", "p@ss", "h", 0, "d"),
        ("postgresql://u:p@[::1]:5/d", "u", "p", "::1", 5, "d"),
        ("mysql://u@h/d%20d", "u", "", "h", 0, "d d"),
    ],
)
def test_a_database_url_is_taken_apart(
    url: str, user: str, password: str, host: str, port: int, database: str
) -> None:
    address = parse_url(url, "s")
    assert (address.user, address.password, address.hosts[0], address.database) == (
        user,
        password,
        (host, port),
        database,
    )
    assert "p%40" not in repr(address)
    if password:
        assert password not in address.without_secrets(f"x {password} y") or len(password) < 3


@pytest.mark.parametrize("url", ["postgresql://u:secret@[h/d", "postgresql://u:secret@h:port/d"])
async def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await open_source(SourceConfig.model_validate({"url": url}), ReferenceRules(bucket="b"))
    assert "secret" not in str(caught.value)


async def test_a_source_without_a_url_says_so() -> None:
    with pytest.raises(ConfigurationError, match="has no database URL"):
        await open_source(SourceConfig(name="x"), ReferenceRules(bucket="b"))
