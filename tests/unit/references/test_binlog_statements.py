"""What a statement in the binary log means, and what comes before what in it."""

from __future__ import annotations

import pytest

from s3gc.exceptions import CDCError
from s3gc.references.cdc.mysql_position import Position, behind, gtids, snapshot_position
from s3gc.references.cdc.mysql_rows import words_of
from s3gc.references.cdc.mysql_statements import obstacle, xa_of
from s3gc.references.cdc.mysql_watched import is_of_the_row
from s3gc.references.sources.mysql_catalog import Column, Table

WATCHED = [("app", "f"), ("app", "odd`name")]

HARMLESS = [
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT `x`", "XA END X'71',X'',1", "# Dummy", "",
    "analyze table f", "flush tables", "GRANT SELECT ON app.f TO x", "CREATE USER f", "SET PASSWORD FOR x = 'y'",
    "CREATE DEFINER=`root`@`%` PROCEDURE p() SELECT 1 FROM f", "CREATE TABLE other (k int)",
    "ALTER TABLE elsewhere.f ADD x int", "ALTER TABLE f2 ADD x int", "DROP DATABASE `app2`", "TRUNCATE `other`.`f`",
]  # fmt: skip
FATAL = [
    "ALTER TABLE f ADD x int", "alter table `F` add x int", "ALTER TABLE app . f ADD x int", 'DROP TABLE "app"."f"',
    "/* tracer */ ALTER TABLE f ADD x int", "-- tracer\nTRUNCATE f", "# tracer\nTRUNCATE f",
    "RENAME TABLE a TO b, `f_new` TO `f`", "ALTER TABLE `a#b` RENAME TO f", "ALTER TABLE a COMMENT '/*', RENAME TO f",
    "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `f`", "DROP TABLE /*M!100000 IF EXISTS */ f", "OPTIMIZE TABLE f",
    "CREATE TRIGGER t BEFORE INSERT ON f FOR EACH ROW SET NEW.k = 'x'", "CREATE INDEX i ON f (k)", "DROP DATABASE app",
    "ALTER SCHEMA `app` CHARACTER SET latin1", "TRUNCATE `odd``name`", "START ALTER 7 ALTER TABLE f ADD x int",
    "INSERT INTO other VALUES (1)", "UPDATE other SET k = 1", "DELETE FROM other", "REPLACE other VALUES (1)", "CALL p()",
    "LOAD DATA INFILE 'x' INTO TABLE other", "SET STATEMENT max_statement_time = 1 FOR INSERT INTO other VALUES (1)",
    "(SELECT f())", "DO f()", "WITH x AS (SELECT 1) DELETE FROM other", "something of the future",
]  # fmt: skip


@pytest.mark.parametrize("statement", HARMLESS)
def test_control_administration_and_ddl_elsewhere_do_not_end_a_capture(statement: str) -> None:
    assert obstacle(statement, "app", WATCHED) == ""


@pytest.mark.parametrize("statement", FATAL)
def test_text_that_changes_rows_and_ddl_on_a_watched_table_end_it(statement: str) -> None:
    assert obstacle(statement, "app", WATCHED)


def test_an_unqualified_name_is_of_the_default_database() -> None:
    assert obstacle("TRUNCATE f", "elsewhere", WATCHED) == ""
    assert obstacle("TRUNCATE app.f", "elsewhere", WATCHED)
    assert obstacle("TRUNCATE f", "APP", WATCHED)


def test_a_reason_shows_no_literal_of_the_statement() -> None:
    said = obstacle('INSERT INTO u VALUES (\'s3cret\', "al\\"so")', "app", WATCHED)
    assert "INSERT INTO u" in said
    assert "s3cret" not in said
    assert "al" not in said.partition("(")[2].partition(")")[0].replace("VALUES", "")


def test_prepared_transactions_have_one_name_in_all_their_statements() -> None:
    assert xa_of("XA COMMIT X'71',X'',1") == ("COMMIT", "x'71',x'',1")
    assert xa_of("xa  commit X'71', X'', 1") == ("COMMIT", "x'71',x'',1")
    assert xa_of("COMMIT") is None


def test_files_of_the_log_are_ordered_by_number() -> None:
    assert Position("log.000010", 4).reaches(Position("log.000009", 900))
    assert Position("log.1000000", 4).reaches(Position("log.999999", 900))
    assert not Position("log.000009", 899).reaches(Position("log.000009", 900))
    assert not Position("new.000010", 4).reaches(Position("log.000009", 900)), "another log"


def test_gtids_are_compared_a_domain_at_a_time() -> None:
    seen = gtids("0-1-8,5-2-77")
    assert behind(seen, gtids("0-1-8, 5-2-77")) == ""
    assert behind(seen, gtids("0-1-9,5-2-77")) == "0-1-9"
    assert behind(seen, gtids("0-1-8,5-2-77,6-1-1")) == "6-1-1"
    assert "gone" in behind(seen, gtids("0-1-8"))


def test_words_of_an_enum_may_hold_anything() -> None:
    assert words_of("enum('a','b''c',',','()')") == ["a", "b'c", ",", "()"]
    assert words_of("set('')") == [""]


ALONE = [
    "k IS NOT NULL AND note <> 'now()' OR lower(`note`) LIKE \"a'%\"", "f.id BETWEEN 1 AND 99999.5", "app.f.k = 'x'",
    "(id, k) IN ((1, 'a'), (2, 'b'))", "COALESCE(note, 'x') NOT IN ('a', 'now()')", "NOT (id = 1)", "id = -1 + 2 * 3",
]  # fmt: skip
NOT_ALONE = [
    "id < unix_timestamp()", "note < NOW()", "note < now ()", "note < current_date", "id IN (SELECT 1)", "id > @x",
    "note = 'a\\' OR note < current_date OR note = 'b'", "other(id)", "`other`(id)", "id = rand()", "note = user()",
    "note < SYSDATE()", "id /*! < unix_timestamp() */", "EXISTS (TABLE g)", "k = `unknown`", "note(id)", "id < CURDATE()",
    "5f(id)", "id = 1 #'\n OR note < NOW() #'", "id = 1 --'\n OR note < NOW() --'", "id = 1 /*'*/ OR note < NOW() /*'*/",
]  # fmt: skip


def table_f() -> Table:
    columns = {name: Column(name, "varchar", "varchar(9)", "utf8mb4", False) for name in ("id", "k", "note")}
    return Table("app", "f", "BASE TABLE", "InnoDB", columns, {}, ())


@pytest.mark.parametrize("condition", ALONE)
def test_a_where_over_the_row_alone_can_be_followed(condition: str) -> None:
    assert is_of_the_row(condition, table_f())


@pytest.mark.parametrize("condition", NOT_ALONE)
def test_a_where_that_time_or_another_table_may_change_is_not(condition: str) -> None:
    assert not is_of_the_row(condition, table_f())


class MySQL8:
    """As much of a session as MySQL's GTIDs need: there is no MySQL here to ask."""

    is_mariadb = False

    def __init__(self, mode: str, executed: str) -> None:
        self.row = (mode, executed)

    async def rows(self, _: str) -> list[tuple[str, str]]:
        return [self.row]


async def test_mysql_starts_from_the_gtids_that_were_visible_and_refuses_to_guess() -> None:
    async def at(mode: str, executed: str) -> tuple[Position | None, str]:
        return await snapshot_position(MySQL8(mode, executed))  # type: ignore[arg-type]

    assert await at("ON", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n8a94f357:1") == (
        None,
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,8a94f357:1",
    )
    for mode, executed in [("OFF", ""), ("ON_PERMISSIVE", "x:1"), ("ON", "")]:
        with pytest.raises(CDCError):
            await at(mode, executed)
