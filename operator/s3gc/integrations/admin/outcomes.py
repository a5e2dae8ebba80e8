"""What became of the objects on one page of a plan, found without reading the whole audit for every page.

The audit is written group by group, and a group holds neighbouring keys: so the first and the last key of each group
tell which few groups a page needs. They are read once an operation and kept for the last few operations.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from s3gc.vault.operations import Operation
from s3gc.vault.records import AuditRecord

__all__ = ["Outcomes"]

_OPERATIONS = 16


class Outcomes:
    """`of` answers for any operation; the spans of the groups of the last sixteen are kept (two keys a group)."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[int, tuple[str, str]]] = OrderedDict()
        self._busy = asyncio.Lock()

    async def of(self, operation: Operation, keys: Sequence[str]) -> dict[str, AuditRecord]:
        """The last audit record of each of `keys` that has one."""
        if not keys:
            return {}
        wanted, low, high = set(keys), min(keys), max(keys)
        found: dict[str, AuditRecord] = {}
        for group, (first, last) in (await self._spans(operation)).items():
            if first <= high and low <= last:
                for record in await operation.audit_of(group):
                    if record.key in wanted:
                        found[record.key] = record
        return found

    async def _spans(self, operation: Operation) -> dict[int, tuple[str, str]]:
        async with self._busy:  # one at a time: the first look at an operation reads its whole audit
            spans = self._kept.setdefault(operation.id, {})
            self._kept.move_to_end(operation.id)
            while len(self._kept) > _OPERATIONS:
                self._kept.popitem(last=False)
            groups = await operation.audit_groups()
            for group in groups:
                if group not in spans:
                    named = [record.key for record in await operation.audit_of(group)]
                    if named:
                        spans[group] = (min(named), max(named))
            return {group: spans[group] for group in groups if group in spans}
