"""What a scope remembers between cycles: since when objects are unreferenced, the guards' baselines, restored
keys.

All of it is read and written under the scope's lock. A file that cannot be read is an error and never
"nothing remembered": lost holds would let the next cycle delete what on-call has just brought back.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.exceptions import VaultCorruptedError
from s3gc.vault import layout
from s3gc.vault.scopes import Scope

if TYPE_CHECKING:
    from s3gc.vault.vault import Vault

__all__ = ["HOLDS_SCHEMA", "MATURITY_SCHEMA", "Hold", "HoldBatches", "ScopeState"]

_TIME = pa.timestamp("us", tz="UTC")

#: ``state.parquet``: when a listing first saw this very object, and when a believed cycle first saw it
#: unreferenced.
MATURITY_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("last_modified", _TIME),
        ("first_listed", _TIME),
        ("first_unreferenced", _TIME),
    ]
)

#: ``holds.parquet``: keys that count as referenced until a time, one row a key.
HOLDS_SCHEMA = pa.schema(
    [("key", pa.string()), ("until", _TIME), ("operation_id", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True, slots=True)
class Hold:
    """`key` counts as referenced until `until` (UTC)."""

    key: str
    until: datetime
    operation_id: str
    reason: str


class HoldBatches:
    """Collects keys to be held until one time for one reason, as a table: a million keys are their own
    bytes."""

    _BATCH = 10_000

    def __init__(self, until: datetime, operation_id: str, reason: str) -> None:
        self._rest = (until, operation_id, reason)
        self._keys: list[str] = []
        self._tables: list[pa.Table] = []

    def add(self, key: str) -> None:
        self._keys.append(key)
        if len(self._keys) >= self._BATCH:
            self._flush()

    def table(self) -> pa.Table:
        """Everything added so far, of `HOLDS_SCHEMA`."""
        self._flush()
        return pa.concat_tables([HOLDS_SCHEMA.empty_table(), *self._tables])

    def _flush(self) -> None:
        rest = [
            pa.repeat(pa.scalar(v, f.type), len(self._keys))
            for v, f in zip(self._rest, list(HOLDS_SCHEMA)[1:], strict=True)
        ]
        self._tables.append(
            pa.Table.from_arrays([pa.array(self._keys, pa.string()), *rest], schema=HOLDS_SCHEMA)
        )
        self._keys = []


class ScopeState:
    """The files under ``scopes/<id>/`` that a cycle carries to the next one."""

    def __init__(self, vault: Vault, scope: Scope) -> None:
        self._storage = vault.storage
        self._scope = scope

    def path(self, name: str) -> str:
        return layout.scope_path(self._scope.id, name)

    # --- maturity

    async def fetch_maturity(self, to: Path) -> bool:
        """Copy state.parquet (`MATURITY_SCHEMA`) to a local file; False, and no file, when there is none
        yet."""
        return await self._fetch("state.parquet", to, MATURITY_SCHEMA)

    async def save_maturity(self, path: Path) -> None:
        await self._storage.write_file(self.path("state.parquet"), path)

    # --- baselines

    async def baselines(self) -> dict[str, Any]:
        """What the guards believed last time; empty at first."""
        try:
            value = json.loads(await self._storage.read(self.path("baselines.json")))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self._damaged("baselines.json", str(error)) from None
        if not isinstance(value, dict):
            raise self._damaged("baselines.json", "it is not a JSON object")
        return value

    async def save_baselines(self, values: dict[str, Any]) -> None:
        data = json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True, default=str) + "\n"
        await self._storage.write(self.path("baselines.json"), data.encode())

    # --- holds

    async def fetch_holds(self, to: Path) -> bool:
        """Copy holds.parquet (`HOLDS_SCHEMA`) to a local file; False, and no file, when there is none."""
        if not await self._fetch("holds.parquet", to, HOLDS_SCHEMA):
            return False
        try:  # whoever reads the copy may not look at its checksums, and a hold that is lost is an object that is lost
            await asyncio.to_thread(_read_all, to)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged("holds.parquet", str(error)) from None
        return True

    async def holds(self, now: datetime | None = None) -> pa.Table:
        """The holds that count at `now` (default: this machine's time), as a table of `HOLDS_SCHEMA`, one row
        a key."""
        with tempfile.TemporaryDirectory(prefix="s3gc-holds-") as folder:
            local = Path(folder) / "holds.parquet"
            if not await self.fetch_holds(local):
                return HOLDS_SCHEMA.empty_table()
            return await asyncio.to_thread(_valid_holds, local, now or datetime.now(UTC))

    async def hold_of(self, key: str, now: datetime | None = None) -> Hold | None:
        """The hold on one key that counts at `now`, or None."""
        table = await self.holds(now)
        rows = table.filter(pc.equal(table["key"], key)).to_pylist()
        return Hold(**rows[0]) if rows else None

    async def add_holds(self, holds: Iterable[Hold], now: datetime | None = None) -> None:
        """Add holds, durably; the later end counts for a key that has one, and holds that are over are
        dropped."""
        await self.add_hold_table(
            pa.Table.from_pylist([asdict(hold) for hold in holds], schema=HOLDS_SCHEMA), now
        )

    async def add_hold_table(self, added: pa.Table, now: datetime | None = None) -> None:
        """As `add_holds`, for many: a table of `HOLDS_SCHEMA` (see `HoldBatches`)."""
        if not added.num_rows:
            return
        existing = await self.holds(now)
        with tempfile.TemporaryDirectory(prefix="s3gc-holds-") as folder:
            local = Path(folder) / "holds.parquet"
            await asyncio.to_thread(_write_holds, pa.concat_tables([existing, added]), local)
            await self._storage.write_file(self.path("holds.parquet"), local)

    async def drop_holds(self, keys: Iterable[str], now: datetime | None = None) -> int:
        """Let go of the holds on `keys`; return how many there were."""
        existing = await self.holds(now)
        dropped = pc.is_in(existing["key"], value_set=pa.array(sorted(set(keys)), pa.string()))
        count = int(pc.sum(dropped).as_py() or 0)
        if count:
            with tempfile.TemporaryDirectory(prefix="s3gc-holds-") as folder:
                local = Path(folder) / "holds.parquet"
                await asyncio.to_thread(_write_holds, existing.filter(pc.invert(dropped)), local)
                await self._storage.write_file(self.path("holds.parquet"), local)
        return count

    # --- small things

    async def _fetch(self, name: str, to: Path, schema: pa.Schema) -> bool:
        try:
            chunks: AsyncIterator[bytes] = self._storage.stream(self.path(name))
            with to.open("wb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
        except FileNotFoundError:
            to.unlink(missing_ok=True)
            return False
        try:
            found = await asyncio.to_thread(pq.read_schema, to)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(name, str(error)) from None
        missing = [field.name for field in schema if field.name not in found.names]
        if missing:
            raise self._damaged(name, f"it has no column {', '.join(missing)}")
        return True

    def _damaged(self, name: str, what: str) -> VaultCorruptedError:
        consequence = {
            "state.parquet": "remove it and every object begins to wait anew",
            "baselines.json": "remove it and the guards against sudden drops begin anew",
            "holds.parquet": "remove it only when no restored object still needs its hold",
        }[name]
        return VaultCorruptedError(
            f"{self.path(name)} of the vault {self._storage.location} is damaged ({what}); nothing is "
            "deleted until it is "
            f"whole. Bring it back from a copy, or {consequence}. Restores are not affected",
            details={"path": self.path(name)},
        )


def _read_all(path: Path) -> None:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for _ in file.iter_batches():
            pass


def _valid_holds(path: Path, now: datetime) -> pa.Table:
    table = pq.read_table(path, schema=HOLDS_SCHEMA)
    return table.filter(pc.greater(table["until"], pa.scalar(now, _TIME)))


def _write_holds(table: pa.Table, path: Path) -> None:
    # Sorted by key and then by end, the last row of each key is the one that counts.
    ordered = table.sort_by([("key", "ascending"), ("until", "ascending")]).combine_chunks()
    if ordered.num_rows:
        keys = ordered["key"]
        is_last = pa.chunked_array(
            [
                pc.not_equal(keys.slice(0, len(keys) - 1).combine_chunks(), keys.slice(1).combine_chunks()),
                pa.array([True]),
            ]
        )
        ordered = ordered.filter(is_last)
    pq.write_table(ordered, path, compression="zstd", write_page_checksum=True)
