"""Every type of PostgreSQL comes out as the text or the bytes that it holds; nothing is left out, nothing made up."""

from __future__ import annotations

import uuid

import asyncpg
import pytest
from tests.library.sources.helpers import pg, read, read_once, source_of
from tests.testbed.services import Postgres

from s3gc.exceptions import ConfigurationError
from s3gc.references.types import PrefixReference

NASTY = [
    "plain.jpg",
    "",
    "tab\there",
    "line\nfeed",
    "carriage\rreturn",
    "back\\slash",
    "\\N",
    "\\.",
    "\b\f\v",
    "Größe/日本語/🦀.jpg",
    "unit\x1fseparator\x85next\u2028line",
    "quote\"s and 's",
    "x" * 300_000,
]


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await postgres.fresh_database()


async def test_text_comes_out_character_for_character_whatever_copy_escapes(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE files (k text)")
    await connection.executemany("INSERT INTO files VALUES ($1)", [(value,) for value in NASTY])
    await connection.execute("INSERT INTO files VALUES (NULL), (NULL)")
    await connection.close()
    assert await read_once(url, table="files", columns=["k"]) == {"public.files.k": sorted(NASTY)}


TYPES = [
    ("varchar(40)", "'a/b.jpg'", ["a/b.jpg"]),
    ("char(12)", "'a.jpg'", ["a.jpg"]),
    ("citext", "'A/b.JPG'", ["A/b.JPG"]),
    ("name", "'a.jpg'", ["a.jpg"]),
    ("int8", "42", ["42"]),
    ("numeric(20,4)", "12.5", ["12.5000"]),
    ("boolean", "true", ["t"]),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", """'{"a": "x\\\\/y.jpg",  "b":1}'""", ['{"a": "x\\\\/y.jpg",  "b":1}']),
    ("jsonb", """'{"k":"a.jpg"}'""", ['{"k": "a.jpg"}']),
    ("text[]", "ARRAY['a.jpg','b c.jpg',NULL]", ['{a.jpg,"b c.jpg",NULL}']),
    ("char(6)[]", "ARRAY['a','b']", ["{a,b}"]),
    ("hstore", "'k=>a.jpg'", ['"k"=>"a.jpg"']),
    ("bytea", "decode('61ff00', 'hex')", [b"a\xff\x00"]),
    ("bytea[]", "ARRAY[decode('61','hex'), NULL, decode('62','hex')]", [b"a", b"b"]),
    ("color", "'red'", ["red"]),
    ("path", "'a.jpg'", ["a.jpg"]),
    ("blob", "decode('61','hex')", [b"a"]),
    ("pair", "ROW('a.jpg', NULL)::pair", ["(a.jpg,)"]),
    ("pair[]", "ARRAY[ROW('a.jpg', 'b')::pair]", ['{"(a.jpg,b)"}']),
    ("xml", "'<a href=\"x.jpg\"/>'", ['<a href="x.jpg"/>']),
]


@pytest.mark.parametrize(("of", "literal", "expected"), TYPES, ids=[of for of, _, _ in TYPES])
async def test_a_type_comes_out_as_text_or_bytes(
    url: str, of: str, literal: str, expected: list[object]
) -> None:
    await pg(
        url,
        "CREATE TYPE color AS ENUM ('red')",
        "CREATE DOMAIN path_ AS text; CREATE DOMAIN path AS path_ CHECK (value <> '')"
        if of == "path"
        else "SELECT 1",
        "CREATE DOMAIN blob AS bytea",
        "CREATE TYPE pair AS (a text, b text)",
        f"CREATE TABLE t (v {of if of != 'path' else 'public.path'})",
        f"INSERT INTO t VALUES ({literal}), (NULL)",
    )
    assert await read_once(url, table="t", columns=["v"]) == {"public.t.v": expected}


async def test_an_array_of_keys_yields_each_element_as_a_key(url: str) -> None:
    await pg(
        url,
        "CREATE TABLE t (v text[])",
        "INSERT INTO t VALUES (ARRAY['a,b.jpg', 'c.jpg']), (ARRAY['d', NULL]), (NULL), ('{}')",
    )
    found = await read_once(url, table="t", columns=[{"name": "v", "format": "key"}])
    assert found == {"public.t.v": ["a,b.jpg", "c.jpg", "d"]}


async def test_format_key_is_refused_for_a_document(url: str) -> None:
    await pg(url, "CREATE TABLE t (v jsonb)")
    with pytest.raises(ConfigurationError, match=r"public\.t\.v is of type jsonb, but has format key"):
        await read_once(url, table="t", columns=[{"name": "v", "format": "key"}])


async def test_where_limits_the_rows_also_with_a_comment_or_semicolon_at_its_end(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text, gone bool)", "INSERT INTO t VALUES ('a', false), ('b', true)")
    for where in ("not gone", "not gone -- only these", "not gone;", " not gone /* x */ ; "):
        assert await read_once(url, table="t", columns=["k"], where=where) == {"public.t.k": ["a"]}


async def test_where_cannot_become_a_second_statement(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)", "CREATE TABLE victim (k text)", "INSERT INTO t VALUES ('a')")
    for where in ("true); DROP TABLE victim; --", "true) TO STDOUT; DROP TABLE victim; --", "true /*"):
        with pytest.raises(ConfigurationError, match=r"where of public\.t"):
            await read_once(url, table="t", columns=["k"], where=where)
    await pg(url, "SELECT * FROM victim")


async def test_a_query_yields_its_first_column_and_writes_nothing(url: str) -> None:
    await pg(
        url,
        "CREATE TABLE t (id int, k text, b bytea)",
        "INSERT INTO t VALUES (1, 'a', 'x'), (2, NULL, NULL), (3, 'c', 'y')",
        "CREATE FUNCTION sneak() RETURNS text LANGUAGE sql AS $$ INSERT INTO t VALUES (9, 'z') RETURNING k $$",
    )
    queries = [
        {
            "name": "keys",
            "sql": "with x as (select k, id from t) select k, id, id, 1, 1 from x order by x.id desc; ",
        },
        {"name": "bytes", "sql": "select b from t -- comment"},
        {"name": "constant", "sql": "values ('x'), (null)"},
    ]
    found = await read_once(url, queries=queries)
    assert found == {"query keys": ["a", "c"], "query bytes": [b"x", b"y"], "query constant": ["x"]}
    with pytest.raises(Exception, match="read-only"):
        await read_once(url, queries=[{"name": "sneak", "sql": "select sneak()"}])
    with pytest.raises(ConfigurationError, match="query 'del'"):
        await read_once(url, queries=[{"name": "del", "sql": "delete from t returning k"}])
    with pytest.raises(ConfigurationError, match="query 'two'"):
        await read_once(url, queries=[{"name": "two", "sql": "select k from t; select 1"}])


async def test_a_template_composes_keys_and_makes_a_prefix_of_a_null_part(url: str) -> None:
    some = uuid.uuid4()
    await pg(
        url,
        "CREATE TABLE users (id int, tenant char(4), token uuid, file text, raw bytea)",
        f"INSERT INTO users VALUES (7, 'ab', '{some}', 'C:/x/Pic\\ture.JPG', 'zz'), (8, 'cd', NULL, E'a\\tb', 'yy'), (9, NULL, NULL, NULL, NULL)",
    )
    found = await read_once(
        url,
        table="users",
        columns=[
            {"template": "avatars/{tenant}/{id:idpart}/{token:nodash|upper}.jpg"},
            {"template": "{{x}}/{id}/{file:basename|lower}"},
            {"template": "r/{raw}"},
        ],
    )
    first = "public.users:avatars/{tenant}/{id:idpart}/{token:nodash|upper}.jpg"
    assert set(found[first]) == {
        "avatars/",
        "avatars/cd/000/000/008/",
        f"avatars/ab/000/000/007/{some.hex.upper()}.jpg",
    }
    assert {value for value in found[first] if isinstance(value, PrefixReference)} == {
        "avatars/",
        "avatars/cd/000/000/008/",
    }
    assert set(found["public.users:{{x}}/{id}/{file:basename|lower}"]) == {
        "{x}/7/pic\\ture.jpg",
        "{x}/8/a\tb",
        "{x}/9/",
    }
    assert set(found["public.users:r/{raw}"]) == {"r/zz", "r/yy", "r/"}


async def test_a_template_that_would_reference_everything_is_refused_with_column_and_rows(url: str) -> None:
    await pg(url, "CREATE TABLE users (id int)", "INSERT INTO users VALUES (1), (NULL), (NULL)")
    columns = [{"template": "/{id}.jpg"}]
    with pytest.raises(ConfigurationError, match=r"column 'id' is NULL in 2 rows"):
        await read_once(url, table="users", columns=columns)
    assert await read_once(url, table="users", columns=columns, where="id is not null") == {
        "public.users:/{id}.jpg": ["/1.jpg"]
    }


async def test_a_template_checked_before_a_null_appeared_refuses_while_it_reads(url: str) -> None:
    await pg(url, "CREATE TABLE users (id int)", "INSERT INTO users VALUES (1)")
    async with source_of(url, table="users", columns=[{"template": "{id}.jpg"}]) as source:
        preflight = await source.preflight(execute=True)
        await pg(url, "INSERT INTO users VALUES (NULL)")
        with pytest.raises(ConfigurationError, match=r"column 'id' is NULL in 1 row,"):
            await read(source, preflight)


async def test_relations_of_every_kind_are_read(url: str) -> None:
    await pg(
        url,
        "CREATE TABLE t (k text, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t_2 PARTITION OF t DEFAULT",
        "INSERT INTO t VALUES ('a', 1), ('b', 99)",
        "CREATE VIEW v AS SELECT k FROM t",
        "CREATE MATERIALIZED VIEW m AS SELECT k FROM t",
        "CREATE TABLE parent (k text)", "CREATE TABLE child (own text) INHERITS (parent)",
        "INSERT INTO parent VALUES ('p')", "INSERT INTO child VALUES ('c', 'o')",
        "CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE f (k text) SERVER files OPTIONS (program 'echo from-afar')",
        "CREATE UNLOGGED TABLE u (k text)", "INSERT INTO u VALUES ('u')",
    )  # fmt: skip
    expected = {
        "t": ["a", "b"],
        "t_1": ["a"],
        "v": ["a", "b"],
        "m": ["a", "b"],
        "parent": ["c", "p"],
        "f": ["from-afar"],
        "u": ["u"],
    }
    tables = [{"table": name, "columns": ["k"]} for name in expected]
    assert await read_once(url, tables=tables) == {
        f"public.{name}.k": values for name, values in expected.items()
    }


async def test_names_of_every_shape_are_found_and_quoted(url: str) -> None:
    await pg(
        url,
        'CREATE SCHEMA "Odd.Schema"',
        'CREATE TABLE "we""ird; drop table users; --" ("col ""x""; --" text, "a.b" text)',
        'INSERT INTO "we""ird; drop table users; --" VALUES (\'w\', \'ab\')',
        'CREATE TABLE "Users" ("avatarUrl" text)', 'INSERT INTO "Users" VALUES (\'u\')',
        'CREATE TABLE "Odd.Schema"."T" (k text)', 'INSERT INTO "Odd.Schema"."T" VALUES (\'odd\')',
    )  # fmt: skip
    found = await read_once(
        url,
        tables=[
            {"table": 'we"ird; drop table users; --', "columns": ['col "x"; --', "a.b"]},
            {"table": "public.Users", "columns": ["avatarUrl"]},
            {"table": '"Users"', "columns": ['"avatarUrl"']},
            {"table": '"Odd.Schema"."T"', "columns": ["K"]},
            {"table": "Odd.Schema.T", "columns": ["k"]},
        ],
    )
    assert found == {
        'public.we"ird; drop table users; --.col "x"; --': ["w"],
        'public.we"ird; drop table users; --.a.b': ["ab"],
        "public.Users.avatarUrl": ["u"],
        "Odd.Schema.T.k": ["odd"],
    }


async def test_a_name_that_could_be_two_tables_must_be_written_with_quotes(url: str) -> None:
    await pg(
        url, 'CREATE TABLE "Users" (k text)', "CREATE TABLE users (k text)", "INSERT INTO users VALUES ('x')"
    )
    with pytest.raises(
        ConfigurationError, match=r"""'Users' could be "public"\."Users" or "public"\."users\""""
    ):
        await read_once(url, table="Users", columns=["k"])
    assert await read_once(url, table='"users"', columns=["k"]) == {"public.users.k": ["x"]}
    assert await read_once(url, table="users", columns=["k"]) == {"public.users.k": ["x"]}


async def test_the_role_s_search_path_decides_what_an_unqualified_name_means(url: str) -> None:
    await pg(
        url,
        "CREATE SCHEMA app", "CREATE TABLE app.files (k text)", "INSERT INTO app.files VALUES ('app')",
        "CREATE TABLE public.files (k text)", "INSERT INTO public.files VALUES ('public')",
        f"ALTER DATABASE {url.rpartition('/')[2]} SET search_path = app, public",
    )  # fmt: skip
    assert await read_once(url, table="files", columns=["k"]) == {"app.files.k": ["app"]}
    assert await read_once(url, table="public.files", columns=["k"]) == {"public.files.k": ["public"]}


async def test_a_database_in_sql_ascii_yields_its_bytes(postgres: Postgres) -> None:
    name = "ascii_" + uuid.uuid4().hex
    await pg(
        postgres.url,
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    postgres.made.append(name)
    url = postgres.dsn(name)
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES (E'caf\\351.jpg'), ('ok')")
    found = (await read_once(url, table="t", columns=["k"]))["public.t.k"]
    assert {value.encode("utf-8", "surrogateescape") for value in found} == {b"caf\xe9.jpg", b"ok"}
