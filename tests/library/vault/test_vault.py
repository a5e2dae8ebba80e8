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
from s3gc.exceptions import LockedError, RefusedError, VaultCorruptedError, VaultError
from s3gc.vault.lock import hold_scope
from s3gc.vault.vault import Vault


def policy(vault_path: object, **more: Any) -> S3GCConfig:
    return create_config(**{"bucket": "media-bucket", "vault_path": str(vault_path), **more})


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
    await vault.scope(config)
    (tmp_path / "vault/s3gc-vault.json").unlink()
    with pytest.raises(VaultCorruptedError, match="lost"):
        await Vault.open(config)
    (tmp_path / "vault/s3gc-vault.json").write_text("{")
    with pytest.raises(VaultCorruptedError, match=r"s3gc-vault\.json"):
        await Vault.open(config)


async def test_a_scope_is_chosen_once_and_survives_edits(settings: dict[str, Any]) -> None:
    vault = await Vault.open(policy(**settings))
    first = await vault.scope(policy(**settings, prefixes=["a/"], endpoint_url="http://old:9000"))
    second = await vault.scope(policy(**settings, prefixes=["b/", "c/"], endpoint_url="http://new:9000"))
    assert first.id == second.id
    known = await vault.scopes()
    assert [scope.prefixes for scope in known] == [("b/", "c/")]
    assert known[0].endpoint_url == "http://new:9000"
    await vault.close()


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
    await vault.scope(policy(tmp_path / "vault", name="first", **mine))
    second = policy(tmp_path / "vault", name="second", **theirs)
    if not is_refused:
        assert (await vault.scope(second)).name == "second"
        return
    with pytest.raises(RefusedError, match="overlaps") as caught:
        await vault.scope(second)
    assert caught.value.details["guard"] == "overlap"
    assert [scope.name for scope in await vault.scopes()] == ["first"], "the refused one left nothing behind"


async def test_an_edit_that_would_overlap_is_refused_and_taken_back(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault", name="first", prefixes=["a/"])
    vault = await Vault.open(config)
    await vault.scope(config)
    await vault.scope(policy(tmp_path / "vault", name="second", prefixes=["b/"]))
    with pytest.raises(RefusedError):
        await vault.scope(policy(tmp_path / "vault", name="first", prefixes=["a/", "b/c/"]))
    assert {scope.name: scope.prefixes for scope in await vault.scopes()} == {
        "first": ("a/",),
        "second": ("b/",),
    }


async def test_of_two_overlapping_policies_that_start_together_never_both_go_on(tmp_path: Path) -> None:
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        vault = await Vault.open(policy(folder))
        results = await asyncio.gather(
            vault.scope(policy(folder, name="first")),
            vault.scope(policy(folder, name="second")),
            return_exceptions=True,
        )
        assert sum(isinstance(result, RefusedError) for result in results) >= 1


async def test_a_retired_scope_owns_nothing_any_more(tmp_path: Path) -> None:
    config = policy(tmp_path / "vault", name="old")
    vault = await Vault.open(config)
    await vault.retire((await vault.scope(config)).id)
    assert (await vault.scope(policy(tmp_path / "vault", name="new"))).name == "new"


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
