"""Opening a vault and its scopes: the sentinel, newer formats, overlaps, and the same in a folder and in
S3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.library.vault.processes import QUICK, scope_named
from tests.testbed.services import S3Server

from s3gc.builder import create_config
from s3gc.config import S3GCConfig
from s3gc.exceptions import (
    ConfigurationError,
    LockedError,
    RefusedError,
    VaultCorruptedError,
    VaultError,
)
from s3gc.vault.lock import hold_scope
from s3gc.vault.ownership import claimed_scope, own_scope, rename_scope, retire_scope
from s3gc.vault.vault import Scope, Vault

SHOP = {"tables": {"users": ["avatar_url"]}, "database_url": "postgresql://app:secret@db.internal/shop"}


def policy(vault_path: object, **more: Any) -> S3GCConfig:
    return create_config(**{"bucket": "media-bucket", "vault_path": str(vault_path), **more})


async def cycle(vault: Vault, config: S3GCConfig, *, executing: bool = True) -> Scope:
    """What a cycle does to a scope, without its lock."""
    held = await claimed_scope(vault.storage, config)
    return await own_scope(vault.storage, held, config, executing=executing)


@pytest.fixture(params=["folder", "minio", "versitygw"])
async def settings(
    request: pytest.FixtureRequest,
    make_bucket: Callable[..., str],
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
) -> AsyncIterator[dict[str, Any]]:
    """Where a vault may live: a folder, or a prefix on either S3 server."""
    if request.param == "folder":
        yield {"vault_path": tmp_path / "vault"}
        return
    server: S3Server = request.getfixturevalue(request.param)
    credentials(server)
    yield {"vault_path": f"s3://{make_bucket(server)}/a/vault", "vault_endpoint_url": server.endpoint}


async def test_a_vault_is_made_once_and_keeps_its_id(settings: dict[str, Any]) -> None:
    first = await Vault.open(policy(**settings))
    second = await Vault.open(policy(**settings), read_only=True)
    assert first.id == second.id
    assert await first.size() > 0
    await first.close()
    await second.close()


async def test_vaults_made_at_the_same_moment_are_one(settings: dict[str, Any]) -> None:
    vaults = await asyncio.gather(*(Vault.open(policy(**settings)) for _ in range(5)))
    assert len({vault.id for vault in vaults}) == 1
    for vault in vaults:
        await vault.close()


async def test_of_parallel_lockers_exactly_one_wins(settings: dict[str, Any]) -> None:
    vaults = [await Vault.open(policy(**settings)) for _ in range(4)]
    inside: list[int] = []

    async def take(number: int) -> bool:
        try:
            async with hold_scope(vaults[number], scope_named("media"), times=QUICK) as lock:
                inside.append(number)
                await asyncio.sleep(1.0)
                await lock.check()
                return True
        except LockedError:
            return False

    assert sum(await asyncio.gather(*map(take, range(4)))) == 1
    assert len(inside) == 1
    for vault in vaults:
        await vault.close()


async def test_a_newer_format_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    await (await Vault.open(policy(folder))).close()
    sentinel = folder / "s3gc-vault.json"
    newer = json.dumps({**json.loads(sentinel.read_text()), "version": 2, "more": "than we know"})
    sentinel.write_text(newer)
    with pytest.raises(VaultError, match="newer s3gc"):
        await Vault.open(policy(folder))
    assert sentinel.read_text() == newer


async def test_a_missing_vault_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="does not exist"):
        await Vault.open(policy(tmp_path / "none"), read_only=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VaultError, match="not a vault"):
        await Vault.open(policy(tmp_path / "empty"), read_only=True)
    assert list((tmp_path / "empty").iterdir()) == []


async def test_a_lost_sentinel_is_not_taken_for_a_new_vault(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault")
    vault = await Vault.open(config)
    await cycle(vault, config)
    (tmp_path / "vault/s3gc-vault.json").unlink()
    with pytest.raises(VaultCorruptedError, match="lost"):
        await Vault.open(config)
    (tmp_path / "vault/s3gc-vault.json").write_text("{")
    with pytest.raises(VaultCorruptedError, match=r"s3gc-vault\.json"):
        await Vault.open(config)


async def test_a_scope_is_chosen_once_and_survives_edits(settings: dict[str, Any]) -> None:
    vault = await Vault.open(policy(**settings))
    first = await cycle(vault, policy(**settings, prefixes=["a/"], endpoint_url="http://old:9000"))
    second = await cycle(vault, policy(**settings, prefixes=["b/", "c/"], endpoint_url="http://new:9000"))
    assert first.id == second.id
    known = await vault.scopes()
    assert [scope.prefixes for scope in known] == [("b/", "c/")]
    assert known[0].endpoint_url == "http://new:9000"
    await vault.close()


async def test_looking_at_a_vault_changes_nothing_in_it(settings: dict[str, Any]) -> None:
    vault = await Vault.open(policy(**settings))
    await cycle(vault, policy(**settings, name="media", prefixes=["a/"]))
    before = {file.path: await vault.storage.read(file.path) async for file in vault.storage.list()}
    for edited in ({"name": "media"}, {"name": "media", "prefixes": ["z/"]}, {"name": "another"}, {}):
        await vault.scope(policy(**settings, **edited))
    assert {file.path: await vault.storage.read(file.path) async for file in vault.storage.list()} == before
    await vault.close()


async def test_only_an_execute_lets_go_of_prefixes(tmp_path: Path) -> None:
    vault = await Vault.open(policy(tmp_path / "vault"))
    wide = policy(tmp_path / "vault", name="wide", exclude_prefixes=["a/b/"])
    narrow = policy(tmp_path / "vault", name="wide", prefixes=["a/"], exclude_prefixes=["a/b/", "a/c/"])
    other = policy(tmp_path / "vault", name="other", prefixes=["z/"])
    await cycle(vault, wide)
    assert (await cycle(vault, narrow, executing=False)).prefixes == ("a/",), "it plans with its own"
    [known] = await vault.scopes()
    assert (known.prefixes, known.exclude_prefixes) == (("",), ("a/b/",))
    with pytest.raises(RefusedError):
        await cycle(vault, other)
    await cycle(vault, narrow)
    assert (await cycle(vault, other)).prefixes == ("z/",)


# --- a policy's name


async def test_a_namespace_that_is_added_or_removed_keeps_the_scope(settings: dict[str, Any]) -> None:
    vault = await Vault.open(policy(**settings))
    first = await cycle(vault, policy(**settings, name="media", **SHOP))
    for name in ("shop.media", "media", "shop.media"):
        later = await cycle(vault, policy(**settings, name=name, **SHOP))
        assert (later.id, later.name) == (first.id, name)
        assert [scope.name for scope in await vault.scopes()] == [name]
    await vault.close()


@pytest.mark.parametrize(
    "different",
    [
        {"database_url": "postgresql://app:secret@db.internal/other"},
        {"tables": {"posts": ["image"]}},
        {"tables": None, "database_url": None},
        {"endpoint_url": "http://other:9000"},
        {"name": "other.media"},
        {"name": "shop.images"},
    ],
    ids=lambda change: ",".join(change),
)
async def test_a_policy_that_may_be_another_one_never_takes_a_scope_over(
    tmp_path: Path, different: dict[str, Any]
) -> None:
    folder = tmp_path / "vault"
    vault = await Vault.open(policy(folder))
    first = await cycle(vault, policy(folder, name="a.media" if "name" in different else "media", **SHOP))
    second = policy(folder, **{"name": "shop.media", **SHOP, **different})
    if "endpoint_url" in different:
        assert (await cycle(vault, second)).id != first.id
        return
    with pytest.raises(RefusedError, match="overlap") as caught:
        await cycle(vault, second)
    assert f"s3gc vault rename {first.name} {second.name}" in str(caught.value)
    assert [scope.id for scope in await vault.scopes()] == [first.id]


async def test_who_only_looks_finds_the_scope_by_less(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    vault = await Vault.open(policy(folder))
    first = await cycle(vault, policy(folder, name="shop.media", prefixes=["a/"], **SHOP))
    for named in ({}, {"name": "media"}, {"name": "shop.media"}):
        assert (await vault.scope(policy(folder, **named))).id == first.id
    second = await cycle(vault, policy(folder, name="blog.media", prefixes=["b/"], **SHOP))
    for unclear in ({}, {"name": "media"}):
        assert (await vault.scope(policy(folder, **unclear))).id not in (first.id, second.id)


async def test_a_renamed_policy_keeps_its_scope_and_its_old_name_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    vault = await Vault.open(policy(folder))
    old = await cycle(vault, policy(folder, name="old", prefixes=["a/"], **SHOP))
    await rename_scope(vault.storage, old, "new")
    assert (await cycle(vault, policy(folder, name="new", prefixes=["a/"], **SHOP))).id == old.id
    again = await cycle(vault, policy(folder, name="old", prefixes=["b/"], **SHOP))
    assert again.id != old.id
    with pytest.raises(ConfigurationError, match="already"):
        await rename_scope(vault.storage, again, "new")


async def test_a_scope_that_is_renamed_while_a_cycle_begins_stops_it(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    vault = await Vault.open(policy(folder))
    config = policy(folder, name="old", **SHOP)
    held = await cycle(vault, config)
    await rename_scope(vault.storage, held, "new")
    with pytest.raises(RefusedError, match="run it again"):
        await own_scope(vault.storage, held, config, executing=True)
    assert [scope.name for scope in await vault.scopes()] == ["new"]


async def test_no_credential_stands_in_a_scope(tmp_path: Path) -> None:
    vault = await Vault.open(policy(tmp_path / "vault"))
    scope = await cycle(vault, policy(tmp_path / "vault", **SHOP))
    assert scope.sources == ("postgresql://db.internal/shop: users",)
    assert b"secret" not in await vault.storage.read(f"scopes/{scope.id}/scope.json")


# --- two owners


@pytest.mark.parametrize(
    ("mine", "theirs", "is_refused"),
    [
        ({}, {"prefixes": ["a/"]}, True),
        ({"prefixes": ["a/"]}, {"prefixes": ["a/b/"]}, True),
        ({"prefixes": ["a/"]}, {"prefixes": ["a/"]}, True),
        ({"prefixes": ["a/"]}, {"prefixes": ["b/"]}, False),
        ({"prefixes": ["a/"]}, {"prefixes": ["a"]}, True),
        ({"exclude_prefixes": ["a/"]}, {"prefixes": ["a/b/"]}, False),
        ({"exclude_prefixes": ["a/b/"]}, {"prefixes": ["a/"]}, True),
        ({"bucket": "another-bucket"}, {}, False),
    ],
)
async def test_two_policies_that_could_own_one_object_are_refused(
    tmp_path: Path, mine: dict[str, Any], theirs: dict[str, Any], is_refused: bool
) -> None:
    vault = await Vault.open(policy(tmp_path / "vault"))
    await cycle(vault, policy(tmp_path / "vault", name="first", **mine))
    second = policy(tmp_path / "vault", name="second", **theirs)
    if not is_refused:
        assert (await cycle(vault, second)).name == "second"
        return
    with pytest.raises(RefusedError, match="overlap") as caught:
        await cycle(vault, second)
    assert caught.value.details["guard"] == "overlap"
    assert [scope.name for scope in await vault.scopes()] == ["first"], "the refused one left nothing behind"


async def test_an_edit_that_would_overlap_is_refused_and_taken_back(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault", name="first", prefixes=["a/"])
    vault = await Vault.open(config)
    await cycle(vault, config)
    await cycle(vault, policy(tmp_path / "vault", name="second", prefixes=["b/"]))
    for executing in (True, False):
        with pytest.raises(RefusedError):
            edited = policy(tmp_path / "vault", name="first", prefixes=["a/", "b/c/"])
            await cycle(vault, edited, executing=executing)
    assert {scope.name: scope.prefixes for scope in await vault.scopes()} == {
        "first": ("a/",),
        "second": ("b/",),
    }


async def test_of_two_overlapping_policies_that_start_together_never_both_go_on(tmp_path: Path) -> None:
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        vault = await Vault.open(policy(folder))
        results = await asyncio.gather(
            cycle(vault, policy(folder, name="first")),
            cycle(vault, policy(folder, name="second")),
            return_exceptions=True,
        )
        assert sum(isinstance(result, RefusedError) for result in results) >= 1


async def test_a_retired_scope_owns_nothing_any_more_until_its_next_cycle(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault", name="old", prefixes=["a/"])
    vault = await Vault.open(config)
    old = await cycle(vault, config)
    await retire_scope(vault.storage, old)
    assert (await cycle(vault, policy(tmp_path / "vault", name="new"))).name == "new"
    with pytest.raises(RefusedError):
        await cycle(vault, config)
    await retire_scope(vault.storage, await vault.scope(policy(tmp_path / "vault", name="new")))
    assert (await cycle(vault, config, executing=False)).id == old.id
    assert [scope.name for scope in await vault.scopes() if not scope.retired] == ["old"]


async def test_a_damaged_scope_stops_cycles_and_not_those_who_look(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault", name="first", prefixes=["a/"])
    vault = await Vault.open(config)
    scope = await cycle(vault, config)
    (tmp_path / f"vault/scopes/{scope.id}/scope.json").write_text('{"id": 1')
    with pytest.raises(VaultCorruptedError, match=r"scope\.json .* is damaged"):
        await cycle(vault, policy(tmp_path / "vault", name="second", prefixes=["b/"]))
    assert (await vault.scope(config)).id == scope.id, "its name alone gives its id"


async def test_a_vault_that_is_only_asked_is_never_made(settings: dict[str, Any]) -> None:
    with pytest.raises(VaultError) as caught:
        await Vault.open(policy(**settings), create=False)
    assert caught.value.details["is_missing"]
    made = await Vault.open(policy(**settings))
    again = await Vault.open(policy(**settings), create=False)
    assert again.id == made.id
    await made.close()
    await again.close()


async def test_the_catalog_of_an_s3_vault_lies_in_a_cache_folder(
    minio: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    credentials(minio)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vault = await Vault.open(policy(f"s3://{make_bucket(minio)}/v", vault_endpoint_url=minio.endpoint))
    assert vault.catalog_path == tmp_path / "cache/s3gc/vaults" / vault.id / "vault.db"
    assert vault.catalog_path.parent.is_dir()
    await vault.close()


async def test_two_unnamed_policies_with_databases_of_their_own_are_never_taken_for_one(
    tmp_path: Path,
) -> None:
    """Two applications, one bucket, one vault, no names: each would delete what only the other's rows name."""
    folder = tmp_path / "vault"
    vault = await Vault.open(policy(folder))
    shop = await cycle(vault, policy(folder, prefixes=["a/"], **SHOP))
    blog = {**SHOP, "database_url": "postgresql://app:secret@blog.internal/shop"}
    with pytest.raises(RefusedError, match=r"blog\.internal") as caught:
        await cycle(vault, policy(folder, **blog))
    assert "s3gc vault rename" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert await vault.scopes() == [shop]
    # With prefixes of its own it is a policy beside the other, and each finds its own again.
    other = await cycle(vault, policy(folder, prefixes=["b/"], **blog))
    assert other.id != shop.id
    assert (await cycle(vault, policy(folder, prefixes=["a/", "c/"], **SHOP))).id == shop.id
    assert (await vault.scope(policy(folder, prefixes=["b/"], **blog))).id == other.id
    # A database that moved: named, it goes on where it was.
    await rename_scope(vault.storage, shop, "shop")
    moved = policy(folder, name="shop", **{**SHOP, "database_url": "postgresql://db-2.internal/shop"})
    assert (await cycle(vault, moved.with_updates(prefixes=["a/"]))).id == shop.id
