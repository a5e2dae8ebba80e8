"""Frames, parts and budgets, without any storage or bucket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from s3gc.backup.backup import _in_parts
from s3gc.backup.budget import Budget
from s3gc.backup.packs import LARGEST_FRAME, _problem, compress, decompress
from s3gc.exceptions import VaultCorruptedError
from s3gc.vault.packindex import PackRow


@given(st.binary(max_size=3000), st.sampled_from([1, 3, 19]))
def test_any_content_comes_back_from_its_frame(raw: bytes, level: int) -> None:
    frame = compress(raw, level)
    assert decompress(frame.data, "p", "v") == raw
    assert frame.raw_length == len(raw)


def test_incompressible_content_is_not_given_to_a_slow_level() -> None:
    """Level 19 takes most of a second for this; the fastest level takes a few milliseconds."""
    import time

    raw = os.urandom(2_000_000)
    began = time.process_time()  # what it costs, also on a busy machine
    frame = compress(raw, 19)
    assert time.process_time() - began < 0.2
    assert len(frame.data) < len(raw) * 1.001
    assert len(compress(b"words " * 100_000, 19).data) < 1000


@given(st.binary(min_size=1, max_size=500), st.data())
def test_a_frame_with_any_bit_flipped_is_named_or_means_the_same(raw: bytes, data: st.DataObject) -> None:
    """zstd's own checksum is not enough (a flipped bit can switch it off); the SHA-256 of the content is."""
    frame = compress(raw, 3)
    at = data.draw(st.integers(0, len(frame.data) - 1))
    changed = bytearray(frame.data)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    row = PackRow("k", 0, 0, len(changed), len(raw), frame.raw_sha256, None)
    if _problem(bytes(changed), row) == "":
        assert decompress(bytes(changed), "p", "v") == raw


def test_a_frame_that_declares_too_much_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(LARGEST_FRAME + 1))
    with pytest.raises(VaultCorruptedError, match="declares"):
        decompress(bomb, "p", "v")


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 50))
async def test_parts_are_the_stream_cut_exactly_and_only_the_last_is_last(
    chunks: list[bytes], size: int
) -> None:
    total = sum(map(len, chunks))

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    parts = [item async for item in _in_parts(stream(), size, total)]
    assert b"".join(part for part, _ in parts) == b"".join(chunks)
    assert all(len(part) == size for part, _ in parts[:-1])
    assert [is_last for _, is_last in parts] == [False] * (len(parts) - 1) + [True] * bool(parts)


async def test_a_stream_that_ends_short_has_no_last_part() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"12345"

    assert [is_last async for _, is_last in _in_parts(stream(), 2, 6)] == [False, False, False]


async def test_a_budget_bounds_what_is_in_flight_and_starves_nobody() -> None:
    budget = Budget(100)
    most = used = 0

    async def take(amount: int) -> None:
        nonlocal most, used
        await budget.take(amount)
        used += amount
        most = max(most, used)
        await asyncio.sleep(0)
        used -= amount
        budget.give(amount)

    await asyncio.wait_for(asyncio.gather(*(take(size) for size in [60, 60, 10, 90, 1, 100] * 20)), 60)
    assert most <= 100
    await asyncio.wait_for(take(1000), 60)  # larger than the whole: alone
