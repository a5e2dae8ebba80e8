"""What PostgreSQL's preflight says before any work: every problem at once, the GRANT, the policy that hides rows."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from tests.library.sources.helpers import as_user, pg, pg_role, read, read_once, source_of
from tests.testbed import services
from tests.testbed.services import Home, Postgres

from s3gc.exceptions import AccessDeniedError, ConfigurationError, SourceError


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return await postgres.fresh_database()


async def test_all_problems_come_at_once_with_the_nearest_names_and_schemas(url: str) -> None:
    await pg(
        url,
        "CREATE SCHEMA billing", "CREATE TABLE billing.invoices (pdf_key text)",
        "CREATE TABLE users (id int, avatar_url text, doc jsonb)", "CREATE SEQUENCE numbers",
    )  # fmt: skip
    with pytest.raises(ConfigurationError) as caught:
        await read_once(
            url,
            tables=[
                {"table": "invoices", "columns": ["pdf_key"]},
                {"table": "public.user", "columns": ["x"]},
                {"table": "numbers", "columns": ["x"]},
                {
                    "table": "users",
                    "columns": ["avatar", {"template": "{idd}.jpg"}, {"template": "{id:shout}.jpg"}],
                },
                {"table": "users", "columns": [{"name": "doc", "format": "key"}]},
                {"table": "users", "columns": ["id"], "where": "nope = 1"},
            ],
            queries=[
                {"name": "q", "sql": "select nope from users"},
                {"name": "j", "sql": "select doc from users", "format": "key"},
            ],
            ignore_columns=["users.avatar_ur", "usrs.*", "lonely"],
        )
    errors = caught.value.details["errors"]
    for part in (
        "no table 'invoices' (search path: public); did you mean 'billing.invoices'?",
        "no table 'public.user' (search path: public); did you mean 'public.users'?",
        "no table 'numbers'",
        "table public.users has no column 'avatar'; did you mean 'avatar_url'?",
        "no column 'idd'",
        "there is no filter 'shout'; known: lower, upper, basename, nodash, idpart",
        "public.users.doc is of type jsonb, but has format key",
        'where of public.users: column "nope" does not exist',
        """query 'q': column "nope" does not exist""",
        "query 'j' selects a value of type jsonb",
        "public.users has no column 'avatar_ur'; did you mean 'avatar_url'?",
        "'usrs.*' names no table of this database; did you mean",
        "'lonely' names no table; write table.column",
    ):
        assert any(part in error for error in errors), (part, errors)  # type: ignore[attr-defined]
    assert len(errors) == 13  # type: ignore[arg-type]
    assert all(str(error) in caught.value.message for error in errors)  # type: ignore[attr-defined]


async def test_missing_rights_name_the_grants(url: str) -> None:
    await pg(
        url,
        "CREATE SCHEMA app", "CREATE TABLE app.t (k text)", "CREATE TABLE public.u (k text, other text)",
        "CREATE TABLE public.secret (k text)",
    )  # fmt: skip
    role = await pg_role(url, "s3gc_poor", "GRANT SELECT (k) ON public.u TO {role}")
    tables = [
        {"table": "app.t", "columns": ["k"]},
        {"table": "secret", "columns": ["k"]},
        {"table": "u", "columns": ["other"]},
    ]
    with pytest.raises(AccessDeniedError) as caught:
        await read_once(role, tables=tables, queries=[{"name": "q", "sql": "select k from secret"}])
    for part in ('GRANT USAGE ON SCHEMA "app"', 'GRANT SELECT ON "app"."t"', 'GRANT SELECT ON "public"."secret"',
                 'GRANT SELECT ON "public"."u"', "query 'q': permission denied for table secret"):  # fmt: skip
        assert part in caught.value.message
    with pytest.raises(AccessDeniedError, match="permission denied for table u"):
        await read_once(role, table="u", columns=["k"], where="other is null")
    assert await read_once(role, table="u", columns=["k"]) == {"public.u.k": []}


async def test_connecting_fails_with_a_sentence_and_never_shows_the_password(
    url: str, postgres: Postgres
) -> None:
    for user, password in (
        ("s3gc", "hidden-1"),
        ("nobody_here", "hidden-2"),
        ("s3gc", quote("p@ss/hidden-3:#", safe="")),
    ):
        with pytest.raises(ConfigurationError, match=f"refused user '{user}'") as caught:
            await read_once(as_user(url, user, password), table="t", columns=["v"])
        assert "hidden" not in str(caught.value) + repr(caught.value.details)
    with pytest.raises(ConfigurationError, match="no database 'nope'"):
        await read_once(postgres.dsn("nope"), table="t", columns=["v"])
    with pytest.raises(SourceError, match="cannot reach the server"):
        await read_once("postgresql://u:hidden@127.0.0.1:1/x", table="t", columns=["v"])
    with pytest.raises(SourceError, match=r"cannot reach|no answer"):
        await read_once("postgresql://u:hidden@no-such-host.invalid/x", table="t", columns=["v"])
    with pytest.raises(ConfigurationError, match="does not offer TLS"):
        await read_once(url + "?sslmode=require", table="t", columns=["v"])
    with pytest.raises(ConfigurationError) as caught:
        await read_once("postgresql://u:hidden@[broken/x", table="t", columns=["v"])
    assert "hidden" not in str(caught.value)


async def test_parameters_that_other_tools_put_into_the_url_do_no_harm(url: str) -> None:
    await pg(url, "CREATE TABLE t (k text)")
    more = "?schema=public&connection_limit=5&pgbouncer=true&channel_binding=prefer&sslmode=prefer&application_name=x"
    assert await read_once(url + more, table="t", columns=["k"]) == {"public.t.k": []}
    assert await read_once(url.replace("postgresql:", "postgresql+asyncpg:"), table="t", columns=["k"]) == {
        "public.t.k": []
    }


async def test_a_url_that_names_a_schema_reads_that_one_and_no_leftover_of_the_same_name(url: str) -> None:
    await pg(url, 'CREATE SCHEMA "Shop"', 'CREATE TABLE public.t (k text)', 'CREATE TABLE "Shop".t (k text)',
             "INSERT INTO public.t VALUES ('old')", """INSERT INTO "Shop".t VALUES ('new')""")  # fmt: skip
    query = {"name": "q", "sql": "SELECT k FROM t"}
    found = await read_once(f"{url}?schema=Shop", table="t", columns=["k"], queries=[query])
    assert found == {"Shop.t.k": ["new"], "query q": ["new"]}


async def test_limits_of_the_role_do_not_cut_a_reading_short(url: str) -> None:
    await pg(
        url, "CREATE TABLE t (k text)", "INSERT INTO t SELECT 'k' || i FROM generate_series(1, 200000) i"
    )
    role = await pg_role(url, "s3gc_hurried", "GRANT SELECT ON t TO {role}", "ALTER ROLE {role} SET statement_timeout = '5ms'",
                         "ALTER ROLE {role} SET bytea_output = 'escape'")  # fmt: skip
    async with source_of(role, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        async with source.snapshot() as snapshot:
            rows = 0
            async for batch in snapshot.values(preflight.columns[0], 50_000):
                rows += len(batch)
                await asyncio.sleep(0.05)
    assert rows == 200_000


async def _row_security(url: str) -> str:
    await pg(
        url,
        "CREATE TABLE t (k text, tenant int)", "INSERT INTO t VALUES ('seen', 1), ('hidden', 2)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (tenant = 1)",
        "CREATE VIEW v WITH (security_invoker = true) AS SELECT k FROM t",
    )  # fmt: skip
    return await pg_role(url, "s3gc_tenant", "GRANT SELECT ON t, v TO {role}")


@pytest.mark.parametrize(
    "options",
    [
        {"table": "t", "columns": ["k"]},
        {"table": "v", "columns": ["k"]},
        {"queries": [{"name": "q", "sql": "select k from t"}]},
    ],
    ids=["table", "view", "query"],
)
async def test_rows_hidden_by_row_level_security_refuse_execute_and_warn_a_dry_run(
    url: str, options: dict[str, object]
) -> None:
    role = await _row_security(url)
    async with source_of(role, **options) as source:
        with pytest.raises(
            ConfigurationError, match=r"row-level security hides rows from role 's3gc_tenant'.*BYPASSRLS"
        ):
            await source.preflight(execute=True)
        preflight = await source.preflight(execute=False)
        assert any("row-level security" in warning for warning in preflight.warnings)
        assert next(iter((await read(source, preflight)).values())) == ["seen"]
    async with source_of(url, **options) as source:  # who bypasses policies sees everything
        preflight = await source.preflight(execute=True)
        assert next(iter((await read(source, preflight)).values())) == ["hidden", "seen"]


async def test_row_level_security_that_is_switched_on_after_the_preflight_raises_and_hides_nothing(
    url: str,
) -> None:
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a')")
    role = await pg_role(url, "s3gc_later", "GRANT SELECT ON t TO {role}")
    async with source_of(role, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        preflight = await source.preflight(execute=True)
        before = await source.fingerprint()
        await pg(url, "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
        with pytest.raises(ConfigurationError, match="row-level security"):
            await read(source, preflight)
        with pytest.raises(ConfigurationError, match="row-level security"):
            await source.referenced(["a"])
        assert await source.fingerprint() != before


async def test_a_materialised_view_and_a_foreign_table_have_no_barrier_also_through_a_view_or_query(
    url: str,
) -> None:
    await pg(
        url,
        "CREATE TABLE t (k text)", "CREATE MATERIALIZED VIEW m AS SELECT k FROM t", "CREATE VIEW over_m AS SELECT k FROM m",
        "CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE f (k text) SERVER files OPTIONS (program 'true')",
    )  # fmt: skip
    for options, why in (
        ({"table": "m", "columns": ["k"]}, "public.m is as old as its last REFRESH"),
        ({"table": "over_m", "columns": ["k"]}, "public.m is as old as its last REFRESH"),
        ({"table": "f", "columns": ["k"]}, "public.f is written on another server"),
        (
            {"queries": [{"name": "q", "sql": 'select k from public."f"'}]},
            "public.f is written on another server",
        ),
    ):
        async with source_of(url, **options) as source:
            preflight = await source.preflight(execute=True)
        assert preflight.barrier == ""
        assert why in preflight.barrier_missing
        assert preflight.warnings
    async with source_of(url, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        assert (preflight.barrier, preflight.barrier_missing, preflight.warnings) == ("locks", "", ())


@pytest.fixture
async def replica(testbed_home: Home) -> AsyncIterator[Postgres]:
    server = services.start_postgres(testbed_home, "replica")
    try:
        await pg(server.url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a')")
        yield server
    finally:
        server.close()


async def test_a_replica_is_refused_for_execute_and_never_answers_in_the_primary_s_place(
    replica: Postgres, testbed_home: Home
) -> None:
    (signal,) = [path / "standby.signal" for path in Path(testbed_home.path).glob("replica*/data")]
    async with source_of(replica.url, table="t", columns=[{"name": "k", "format": "key"}]) as source:
        preflight = await source.preflight(execute=True)
        replica.process.stop()  # type: ignore[union-attr]
        signal.touch()
        replica.start()
        for call in (read(source, preflight), source.referenced(["a"]), source.barrier(1)):
            with pytest.raises(SourceError, match="replica"):
                await call
        with pytest.raises(ConfigurationError, match="mode Execute reads the primary"):
            await source.preflight(execute=True)
        preflight = await source.preflight(execute=False)
        assert preflight.barrier == ""
        assert any("is a replica" in warning for warning in preflight.warnings)
        assert await read(source, preflight) == {"public.t.k": ["a"]}


async def test_a_pooler_is_noticed(url: str) -> None:
    """A pooler answers with a process id of its own; this one changes only that (PgBouncer does the same)."""
    await pg(url, "CREATE TABLE t (k text)", "INSERT INTO t VALUES ('a')")
    parts = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def up() -> None:
            while data := await reader.read(65536):
                upstream_writer.write(data)
            upstream_writer.close()

        sending = asyncio.create_task(up())
        known = False
        while data := await upstream_reader.read(65536):
            at = data.find(b"K" + struct.pack(">I", 12))
            if not known and at >= 0:
                known = True
                data = data[: at + 5] + struct.pack(">i", 4242) + data[at + 9 :]
            writer.write(data)
        writer.close()
        await sending

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pooled = url.replace(f":{parts.port}/", f":{port}/")
    async with source_of(pooled, table="t", columns=["k"]) as source:
        preflight = await source.preflight(execute=True)
        assert any("connection pooler" in warning for warning in preflight.warnings)
        assert await read(source, preflight) == {"public.t.k": ["a"]}
    server.close()
