"""What bad input gets: one clear error with the place and the way on, the right exit code, and nothing lost.

Real processes against a real store and a real database. Each ends the way a person on call meets it: by what is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml
from tests.library.cli.conftest import Ended, World
from tests.library.cli.faults import proxy, small_disk
from tests.library.sweep.users import allow, deny, temporary_user
from tests.testbed.services import let_time_pass


def says(ended: Ended, code: int, *words: str) -> str:
    """The message of a command that failed: its code is `code`, and it has all of `words`."""
    assert ended.code == code, f"{ended.code}: {ended.err}"
    if ended.err.startswith("error: "):  # a command that nobody watches for long says it in plain words
        said = [ended.err.removeprefix("error: ")]
    else:
        said = [line["message"] for line in ended.logged if line["event"] == "failed"]
    assert len(said) == 1, f"not one error: {ended.err}"
    for word in words:
        assert word in said[0], said[0]
    return str(said[0])


@pytest.fixture(autouse=True)
def nothing_secret(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of these tests is looked at: no credential is ever printed."""
    secrets = [world.server.secret_key, urlsplit(world.dsn).password or world.server.secret_key]
    run = type(world).__call__

    def looked_at(self: World, *words: str, **changes: str) -> Ended:
        ended = run(self, *words, **changes)
        for secret in secrets:
            assert secret not in ended.out + ended.err, f"a credential is shown: {ended.err}"
        return ended

    monkeypatch.setattr(type(world), "__call__", looked_at)


def everything(world: World) -> set[str]:
    return world.referenced | world.orphans


# --- configuration


def test_a_broken_policy_is_one_message_with_every_problem(world: World) -> None:
    policy = {
        "apiVersion": "s3gc.dev/v1",
        "kind": "BucketGC",
        "metadata": {"name": "media"},
        "spec": {"bucket": {"name": "Media_Bucket"}, "mode": "Delete", "schedule": "often", "vault": {}},
    }
    (world.shell.folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    ended = world("run", "-f", "policy.yaml", "--retention-days=-3", "--tables", "users")
    for place in ("spec.bucket.name: ", "spec.mode: ", "spec.schedule: ", "spec.vault: "):
        says(ended, 2, place)
    says(ended, 2, "--retention-days: ", "--tables 'users' is not table:column")
    assert not world.vault.exists()


def test_no_policy_at_all_says_the_ways_to_give_one(world: World) -> None:
    says(world("run", S3GC_BUCKET=""), 2, "-f POLICY.YAML", "--bucket NAME", "S3GC_BUCKET")


# --- the store


def test_an_unknown_bucket_names_it_and_the_endpoint(world: World) -> None:
    ended = world("run", "--bucket", "there-is-no-such-bucket")
    says(ended, 2, "'there-is-no-such-bucket' does not exist at", world.server.endpoint, "check its name")


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_name_the_variables_and_show_neither(world: World, wrong: str) -> None:
    ended = world("run", "--mode", "execute", **{wrong: "not-the-right-one"})
    says(ended, 2, "refused the credentials", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert "not-the-right-one" not in ended.err + ended.out
    assert world.keys() == everything(world)


def test_no_credentials_at_all_say_the_ways_to_give_them(world: World) -> None:
    ended = world("run", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    says(ended, 2, "credentials", "AWS_ACCESS_KEY_ID")


def test_a_store_that_is_away_is_named(world: World) -> None:
    ended = world("run", AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")
    says(ended, 1, "http://127.0.0.1:1")


@pytest.mark.parametrize("mode", ["dry_run", "execute"])
def test_a_listing_that_is_interrupted_is_an_error_and_nothing_is_planned(world: World, mode: str) -> None:
    def cut(method: str, path: str) -> bool:
        return method == "GET" and "list-type=2" in path and "s3gc" not in path

    with proxy(world.server.endpoint, cut=cut) as endpoint:
        ended = world("run", "--mode", mode, AWS_ENDPOINT_URL_S3=endpoint)
    says(ended, 1, world.bucket, "also when it was asked again", "it ended after", "This run deleted nothing")
    assert world.keys() == everything(world)
    [listed] = world("operations", "--output", "json").json
    assert listed["outcome"] == "Failed"


def test_a_right_that_is_missing_is_named_before_anything_is_deleted(world: World) -> None:
    narrow = temporary_user(world.server, allow("*", "s3:*"), deny(world.bucket, "s3:PutObject", ".s3gc/*"))
    ended = world("run", "--mode", "execute", **narrow)
    says(ended, 2, "s3:PutObject was denied", ".s3gc/claims/", "Allow that action")
    assert world.keys() == everything(world)


def test_a_delete_that_is_denied_keeps_that_object_and_the_rest_goes_on(world: World) -> None:
    kept = min(world.orphans)
    narrow = temporary_user(world.server, allow("*", "s3:*"), deny(world.bucket, "s3:DeleteObject", kept))
    ended = world("run", "--mode", "execute", "--output", "json", **narrow)
    assert ended.code == 0, ended.err
    assert (ended.json["skipped"], ended.json["deleted_count"]) == ({"denied": 1}, len(world.orphans) - 1)
    assert world.keys() == world.referenced | {kept}


# --- the database


def test_unknown_tables_and_columns_come_with_the_nearest_names(world: World) -> None:
    ended = world(
        "run", "--mode", "execute", "--tables", "user:avatar_url", "--tables", "users:avatar_urll,id"
    )
    message = says(ended, 2, "'user'", "users", "'avatar_urll'", "avatar_url")
    assert "'id'" not in message
    assert world.keys() == everything(world)


def test_a_database_that_is_down_is_named_without_its_password(world: World) -> None:
    ended = world("run", "--mode", "execute", DATABASE_URL="postgresql://app:hunter2@127.0.0.1:1/shop")
    says(ended, 1, "127.0.0.1:1")
    assert "hunter2" not in ended.err + ended.out
    assert world.keys() == everything(world)


async def test_a_database_that_goes_away_half_way_deletes_nothing(world: World, postgres: Any) -> None:
    slow = [
        {
            "name": "shop",
            "url": world.dsn,
            "queries": [{"name": "slow", "sql": "select avatar_url, pg_sleep(0.2) from users"}],
        }
    ]
    process = world.start("run", "--mode", "execute", S3GC_SOURCES=json.dumps(slow), S3GC_TABLES="")
    assert process.stderr is not None
    seen = [next(line for line in process.stderr if '"Listing"' in line)]
    assert await _end_sessions(postgres, world.dsn, like="%pg_sleep%"), "nothing was read"
    out, err = process.communicate(timeout=60)
    ended = Ended(process.returncode, out, "".join(seen) + err)
    says(ended, 1, "'shop'", "reading query slow", "This run deleted nothing")
    assert world.keys() == everything(world)
    assert world("vault", "status", "--output", "json").json["unfinished"] == []


async def test_a_database_that_goes_away_during_the_sweep_stops_it_and_the_next_cycle_closes_it(
    world: World, postgres: Any
) -> None:
    slow = ("--set", "canary_objects=2", "--set", "group_objects=2", "--set", "requests_per_second=15")
    process = world.start("run", "--mode", "execute", *slow)
    while process.poll() is None and world.keys() >= everything(world):
        time.sleep(0.05)
    name = urlsplit(world.dsn).path.removeprefix("/")
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await _end_sessions(postgres, world.dsn)
    out, err = process.communicate(timeout=120)
    result = json.loads(out)
    assert (process.returncode, result["outcome"]) == (4, "PartiallyFailed"), err
    assert any("database" in error for error in result["errors"]), result["errors"]
    assert world.referenced <= world.keys()
    assert world("vault", "status", "--output", "json").json["unfinished"] == [result["operation_id"]]

    await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await connection.close()
    done = world("run", "--mode", "execute")
    assert done.code == 0, done.err
    assert world.keys() == world.referenced
    assert world("vault", "status", "--output", "json").json["unfinished"] == []


async def _end_sessions(postgres: Any, dsn: str, like: str = "%") -> bool:
    """End those whose last statement is like that, as soon as there are any; False when there were none for a while."""
    connection = await asyncpg.connect(postgres.url)
    try:
        for _ in range(100):
            if await connection.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and query like $2",
                urlsplit(dsn).path.removeprefix("/"),
                like,
            ):
                return True
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    return False


# --- the vault


@pytest.fixture
def large_orphans(world: World) -> dict[str, bytes]:
    """Orphans that no compression makes small: 40 of 64 KiB."""
    dice = random.Random(5)
    bodies = {f"big/{number:02d}.bin": dice.randbytes(64 * 1024) for number in range(40)}
    for key, body in bodies.items():
        world.client.put_object(Bucket=world.bucket, Key=key, Body=body)
    let_time_pass(world.server, world.bucket)
    world.orphans |= set(bodies)
    return bodies


@pytest.fixture
def disk(world: World) -> Iterator[Any]:
    with small_disk(world.shell.folder / "disk", 1024 * 1024) as made:
        world.shell.limit = made.limit
        world.shell.environment["S3GC_VAULT_PATH"] = str(made.folder / "vault")
        yield made


@pytest.mark.parametrize("versioned", [False])  # else the store has every version itself
def test_a_vault_that_fills_up_stops_the_sweep_and_what_went_can_come_back(
    world: World, large_orphans: dict[str, bytes], disk: Any
) -> None:
    more = ("--set", "limits.max_delete_percent=100", "--set", "group_objects=5", "--set", "canary_objects=5")
    ended = world("run", "--mode", "execute", *more)
    result = ended.json
    assert (ended.code, result["outcome"]) == (4, "PartiallyFailed"), ended.err
    assert any("is full: free space" in error for error in result["errors"]), result["errors"]
    assert result["deleted_count"] < len(world.orphans)
    left = world.keys()
    assert world.referenced <= left
    assert len(everything(world) - left) == result["deleted_count"]

    if disk.limit is None:  # for those who may mount, there is room again
        disk.remount("size=16m")
        again = world("run", "--mode", "execute", *more)
        assert again.code == 0, again.err
        assert world.keys() == world.referenced
        for operation in (result["operation_id"], again.json["operation_id"]):
            assert world("restore", operation, "--no-dry-run").code == 0
        for key, body in large_orphans.items():
            assert world.client.get_object(Bucket=world.bucket, Key=key)["Body"].read() == body


def test_a_vault_that_is_full_from_the_start_deletes_nothing(world: World, disk: Any) -> None:
    if disk.limit is not None:
        pytest.skip("a limit on the size of a file cannot fill a disk")
    with (disk.folder / "film.mp4").open("wb", buffering=0) as film, contextlib.suppress(OSError):
        while True:
            film.write(b"x" * 4096)
    says(world("run", "--mode", "execute"), 9, str(disk.folder), "is full: free space")
    assert world.keys() == everything(world)


def test_a_read_only_vault_can_be_asked_and_not_written(world: World, disk: Any) -> None:
    if disk.limit is not None:
        pytest.skip("only root can mount a vault read-only")
    done = world("run", "--mode", "execute")
    assert done.code == 0, done.err
    world.put(["avatars/later.jpg"])
    disk.remount("ro")
    for words in (
        ("run", "--mode", "execute"),
        ("run",),
        ("restore", "--latest", "--no-dry-run"),
        ("vault", "hold", "latest"),
    ):
        says(world(*words, "--output", "json"), 9, str(disk.folder), "read-only: mount it for writing")
    assert world.keys() == world.referenced | {"avatars/later.jpg"}
    assert len(world("operations", "--output", "json").json) == 1
    assert world("vault", "verify").json["whole"] is True
    assert world("report", "-o", str(world.shell.folder / "page.html")).code == 0


@pytest.fixture
def swept(world: World) -> Path:
    """The folder of an operation that has deleted the orphans."""
    done = world("run", "--mode", "execute", "--set", "pack_size_bytes=65536")
    assert done.code == 0, done.err
    assert world.keys() == world.referenced
    return world.vault / "operations" / str(done.json["operation_id"])


@pytest.mark.parametrize("versioned", [False])  # else the store has every version itself
def test_a_flipped_byte_in_a_pack_costs_what_it_hit_and_is_named(world: World, swept: Path) -> None:
    pack = swept / "packs/000001.pack"
    data = bytearray(pack.read_bytes())
    data[20] ^= 0xFF
    pack.write_bytes(data)
    verified = world("vault", "verify")
    assert (verified.code, verified.json["whole"]) == (9, False)
    hit = {problem["key"] for problem in verified.json["problems"] if problem["key"]}
    restored = world("restore", "--latest", "--no-dry-run")
    assert restored.code == 7
    assert set(restored.json["failed_keys"]) == hit
    assert 0 < len(hit) < len(world.orphans)
    assert "000001.pack" in next(iter(restored.json["failed_keys"].values()))
    assert world.keys() == everything(world) - hit


@pytest.mark.parametrize("versioned", [False])  # else the store has every version itself
def test_a_missing_pack_is_named_before_and_by_the_restore(world: World, swept: Path) -> None:
    for pack in (swept / "packs").iterdir():
        pack.unlink()
    assert world("vault", "verify").code == 9
    for words in (("--dry-run",), ("--no-dry-run",)):
        restored = world("restore", "--latest", *words)
        assert restored.code == 7
        assert restored.json["failed_count"] == len(world.orphans)
        assert "000001.pack" in next(iter(restored.json["failed_keys"].values()))
    assert world.keys() == world.referenced


@pytest.mark.parametrize("versioned", [False])  # else the store has every version itself
def test_a_truncated_manifest_is_made_up_for_and_said(world: World, swept: Path) -> None:
    manifest = swept / "manifest.parquet"
    manifest.write_bytes(manifest.read_bytes()[:-100])
    verified = world("vault", "verify")
    assert (verified.code, "manifest.parquet" in verified.out) == (9, True)
    restored = world("restore", "--latest", "--no-dry-run")
    assert restored.code == 0, restored.out
    assert restored.json["restored_count"] == len(world.orphans)
    assert "the journals were read in its place" in restored.json["warnings"][0]
    assert world.keys() == everything(world)


@pytest.mark.parametrize(
    ("name", "way_on"),
    [
        ("state.parquet", "begins to wait anew"),
        ("baselines.json", "begin anew"),
        ("holds.parquet", "Bring it back from a copy"),
        ("scope.json", "Bring it back from a copy"),
    ],
)
def test_damaged_memory_stops_a_cycle_and_not_a_restore(
    world: World, swept: Path, name: str, way_on: str
) -> None:
    some = sorted(world.orphans)[:2]
    assert world("restore", "--latest", "--key", some[0], "--no-dry-run").code == 0
    [path] = (world.vault / "scopes").glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    says(world("run", "--mode", "execute"), 9, name, way_on, "is damaged")
    assert world.keys() == world.referenced | {some[0]}
    if name != "holds.parquet":  # a hold that cannot be read could be lost by writing a new one
        assert world("restore", "--latest", "--key", some[1], "--no-dry-run").code == 0
        assert world.keys() == world.referenced | set(some)


def test_latest_is_never_the_one_before_a_damaged_one(world: World, swept: Path) -> None:
    (swept / "operation.json").write_text('{"id":')
    for words in (("restore", "--latest"), ("operations", "latest"), ("report", "latest")):
        says(world(*words, "--output", "json"), 9, swept.name, "Say which operation by its id")
    assert world("restore", swept.name, "--no-dry-run").code == 0
    assert world.keys() == everything(world)


def test_a_vault_of_a_newer_version_is_left_alone(world: World, swept: Path) -> None:
    sentinel = world.vault / "s3gc-vault.json"
    sentinel.write_text(sentinel.read_text().replace('"version": 1', '"version": 2'))
    for words in (("run",), ("operations",), ("restore", "--latest")):
        says(world(*words, "--output", "json"), 9, "format 2", "use the newer version")


# --- time, and two at once


@pytest.mark.parametrize("shift", [timedelta(days=-200), timedelta(days=200)], ids=["behind", "ahead"])
def test_a_clock_that_is_months_off_deletes_nothing_and_can_restore(world: World, shift: timedelta) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))  # of the Debian package faketime
    wrong = {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{shift.days:+d}d",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    says(world("run", "--mode", "execute", **wrong), 3, "Set the clock")
    assert world.keys() == everything(world)
    assert world("run", "--mode", "execute").code == 0
    assert world.keys() == world.referenced
    assert world("restore", "--latest", "--no-dry-run", **wrong).code == 0, "the backups have not expired"
    assert world.keys() == everything(world)


@pytest.mark.parametrize("versioned", [False])  # else the store has every version itself
def test_a_restore_that_was_killed_is_finished_by_the_next(world: World, swept: Path) -> None:
    process = world.start("restore", "--latest", "--no-dry-run", "--set", "requests_per_second=8")
    while process.poll() is None and not world.keys() > world.referenced:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    half = world.keys() - world.referenced
    assert 0 < len(half) < len(world.orphans)
    rest = world("restore", "--latest", "--no-dry-run")
    assert rest.code == 0, rest.err
    assert rest.json["restored_count"] + rest.json["skipped_count"] == len(world.orphans)
    assert rest.json["skipped_count"] >= 1
    assert world.keys() == everything(world)
    again = world("restore", "--latest", "--no-dry-run").json
    assert (again["restored_count"], again["skipped_count"]) == (0, len(world.orphans))
