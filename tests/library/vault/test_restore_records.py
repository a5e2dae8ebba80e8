"""The record of a named restore: what makes a restore that is asked for twice happen once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.library.vault.processes import open_vault

from s3gc.exceptions import VaultError
from s3gc.results import RestoreResult
from s3gc.vault.restores import RestoreRecord
from s3gc.vault.vault import Vault

OPERATION = "01HX3K9V7QW2M4N8R5T6Y0ZABC"
LATEST = {"operation_id": None, "keys": ["a.jpg"], "dry_run": False}


@pytest.fixture
async def vault(tmp_path: Path) -> Vault:
    return await open_vault(str(tmp_path / "vault"))


def result(**changes: object) -> RestoreResult:
    return RestoreResult.model_validate(
        {"operation_id": OPERATION, "dry_run": False, "restored_count": 1, **changes}
    )


async def record(vault: Vault, name: str = "shop.undo", **changes: object) -> RestoreRecord:
    return await RestoreRecord.open(vault.storage, name, {**LATEST, **changes})


async def test_what_was_done_is_known_the_next_time(vault: Vault) -> None:
    first = await record(vault)
    assert (first.operation_id, first.result) == (None, None)
    await first.begin(OPERATION)
    await first.end(result())
    assert (await record(vault)).result == result()


async def test_a_restore_of_the_latest_that_was_cut_off_goes_on_with_its_operation(vault: Vault) -> None:
    await (await record(vault)).begin(OPERATION)
    again = await record(vault)
    assert (again.operation_id, again.result) == (OPERATION, None)


@pytest.mark.parametrize("failed", [{"failed_count": 1}, {"errors": ["the store is full"]}])
async def test_one_that_failed_in_part_is_tried_again(vault: Vault, failed: dict[str, object]) -> None:
    first = await record(vault)
    await first.end(result(**failed))
    again = await record(vault)
    assert (again.operation_id, again.result) == (OPERATION, None)


@pytest.mark.parametrize("other", [{"keys": ["b.jpg"]}, {"dry_run": True}, {"operation_id": OPERATION}])
async def test_another_selection_is_another_restore(vault: Vault, other: dict[str, object]) -> None:
    await (await record(vault)).end(result())
    assert (await record(vault, **other)).result is None


async def test_a_choice_that_a_later_version_adds_changes_nothing(vault: Vault) -> None:
    await (await record(vault)).end(result())
    assert (await record(vault, something_new=None)).result == result()


async def test_another_name_is_another_restore(vault: Vault) -> None:
    await (await record(vault)).end(result())
    assert (await record(vault, "shop.other")).result is None


async def test_a_damaged_record_counts_as_none(vault: Vault) -> None:
    first = await record(vault)
    for damage in (b"", b"{", b"[]", b'{"operation_id": 1, "result": {"x": 1}}', b"\xff"):
        await vault.storage.write(first.path, damage)
        assert (await record(vault)).result is None


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a..b", "x" * 200])
async def test_a_name_is_never_a_path(vault: Vault, name: str) -> None:
    with pytest.raises(VaultError):
        await record(vault, name)
