"""What a scope remembers between cycles, and that damage to it is never taken for "nothing remembered"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.library.vault.processes import open_vault, scope_named

from s3gc.exceptions import VaultCorruptedError
from s3gc.vault.state import HOLDS_SCHEMA, MATURITY_SCHEMA, Hold, HoldBatches, ScopeState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def state(tmp_path: Path) -> ScopeState:
    return ScopeState(await open_vault(str(tmp_path / "vault")), scope_named("media"))


def hold(key: str, days: float, operation: str = "one") -> Hold:
    return Hold(key, NOW + days * DAY, operation, "restored")


async def test_maturity_is_kept_as_a_file(state: ScopeState, tmp_path: Path) -> None:
    assert not await state.fetch_maturity(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    table = pa.table({"key": ["a"], "etag": ["e"], "size": [1], "last_modified": [NOW], "first_listed": [NOW],
                      "first_unreferenced": [None]}, schema=MATURITY_SCHEMA)  # fmt: skip
    pq.write_table(table, tmp_path / "new")
    await state.save_maturity(tmp_path / "new")
    assert await state.fetch_maturity(tmp_path / "back")
    assert pq.read_table(tmp_path / "back").equals(table)


async def test_baselines_are_a_dictionary(state: ScopeState) -> None:
    assert await state.baselines() == {}
    await state.save_baselines({"columns": {"ü": 1}})
    assert await state.baselines() == {"columns": {"ü": 1}}


async def test_the_later_end_of_two_holds_counts_whatever_their_order(state: ScopeState) -> None:
    await state.add_holds([hold("a", 3), hold("b", 1), hold("a", 5, "two")], NOW)
    await state.add_holds([hold("a", 1, "three"), hold("c", 2)], NOW)
    rows = {row["key"]: row for row in (await state.holds(NOW)).to_pylist()}
    assert {key: (row["until"] - NOW).days for key, row in rows.items()} == {"a": 5, "b": 1, "c": 2}
    assert rows["a"]["operation_id"] == "two"


async def test_a_hold_that_is_over_does_not_count_and_is_dropped(state: ScopeState) -> None:
    await state.add_holds([hold("a", 1), hold("b", 3)], NOW)
    assert (await state.holds(NOW + 2 * DAY))["key"].to_pylist() == ["b"]
    await state.add_holds([hold("c", 9)], NOW + 2 * DAY)
    assert (await state.holds(NOW))["key"].to_pylist() == ["b", "c"]
    assert await state.hold_of("a", NOW) is None
    assert await state.hold_of("b", NOW) == hold("b", 3)


async def test_holds_can_be_let_go(state: ScopeState) -> None:
    await state.add_holds([hold("a", 1), hold("b", 3)], NOW)
    assert await state.drop_holds(["a", "none"], NOW) == 1
    assert (await state.holds(NOW))["key"].to_pylist() == ["b"]
    assert await state.drop_holds(["b"], NOW) == 1
    assert (await state.holds(NOW)).num_rows == 0


async def test_many_keys_are_held_at_once(state: ScopeState) -> None:
    batches = HoldBatches(NOW + DAY, "one", "restored")
    for number in range(25_000):
        batches.add(f"k{number % 20_000}")
    assert batches.table().schema == HOLDS_SCHEMA
    await state.add_hold_table(batches.table(), NOW)
    assert (await state.holds(NOW)).num_rows == 20_000


@pytest.mark.parametrize("name", ["state.parquet", "baselines.json", "holds.parquet"])
async def test_a_damaged_file_is_an_error_that_names_it(state: ScopeState, name: str, tmp_path: Path) -> None:
    await state.add_holds([hold("a", 1)], NOW)
    pq.write_table(MATURITY_SCHEMA.empty_table(), tmp_path / "state")
    await state.save_maturity(tmp_path / "state")
    await state.save_baselines({})
    file = tmp_path / "vault" / state.path(name)
    file.write_bytes(file.read_bytes()[:-3])
    read = {
        "state.parquet": lambda: state.fetch_maturity(tmp_path / "back"),
        "baselines.json": state.baselines,
        "holds.parquet": lambda: state.holds(NOW),
    }[name]
    with pytest.raises(VaultCorruptedError, match=name):
        await read()


async def test_a_flipped_byte_in_the_holds_is_noticed(state: ScopeState, tmp_path: Path) -> None:
    await state.add_holds([hold(f"key number {number}", 1) for number in range(500)], NOW)
    file = tmp_path / "vault" / state.path("holds.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 1
    file.write_bytes(data)
    with pytest.raises(VaultCorruptedError, match=r"holds\.parquet"):
        await state.holds(NOW)
