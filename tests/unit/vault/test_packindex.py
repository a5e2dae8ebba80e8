"""The end of a pack: found from the file's end, whole or refused."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.vault.test_codec import entry

from s3gc.exceptions import VaultCorruptedError
from s3gc.store.storage import FolderStorage
from s3gc.vault.packindex import (
    FOOTER_LENGTH,
    PackRow,
    decode_tail,
    encode_tail,
    index_start,
    read_pack_index,
)
from s3gc.vault.records import PackPart


def rows(count: int = 3) -> list[PackRow]:
    return [PackRow(f"k{n}", 0, n * 10, 10, n, "a" * 64, entry(key=f"k{n}")) for n in range(count)]


def test_the_tail_is_a_skippable_frame_with_a_readable_footer_of_fixed_length() -> None:
    tail = encode_tail(rows(), 1000)
    magic, length = struct.unpack("<II", tail[:8])
    assert 0x184D2A50 <= magic <= 0x184D2A5F
    assert length == len(tail) - 8
    assert tail.endswith(b"\n")
    footer = tail[-FOOTER_LENGTH:].decode("ascii")
    assert footer.startswith("\ns3gc-pack 1 index_offset=")
    offset, size, count, digest = index_start(footer.encode(), "p", "v")
    assert (offset, count) == (1008, 3)
    index = tail[offset - 1000 : offset - 1000 + size]
    assert decode_tail(index, count, digest, "p", "v") == rows()


def test_zstd_passes_over_the_tail(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(b"hello")
    (tmp_path / "pack").write_bytes(frame + encode_tail(rows(), len(frame)))
    out = subprocess.run(["zstd", "-d", "-c", str(tmp_path / "pack")], check=True, capture_output=True)
    assert out.stdout == b"hello"


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 5)), max_size=6))
def test_any_rows_come_back(made: list[tuple[str, int]]) -> None:
    wanted = [PackRow(key, part, 7, 8, 9, "b" * 64, None if part else entry(key=key)) for key, part in made]
    tail = encode_tail(wanted, 0)
    offset, size, count, digest = index_start(tail[-FOOTER_LENGTH:], "p", "v")
    assert decode_tail(tail[offset : offset + size], count, digest, "p", "v") == wanted


async def test_every_cut_and_a_newer_format_are_refused_by_name(tmp_path: Path) -> None:
    storage = await FolderStorage.open(tmp_path)
    whole = b"x" * 30 + encode_tail(rows(), 30)
    await storage.write("packs/1.pack", whole)
    assert await read_pack_index(storage, "packs/1.pack") == rows()
    for length in range(0, len(whole) - 1, 7):
        await storage.write("packs/1.pack", whole[:length])
        with pytest.raises(VaultCorruptedError, match=r"packs/1\.pack"):
            await read_pack_index(storage, "packs/1.pack")
    await storage.write("packs/1.pack", whole.replace(b"s3gc-pack 1 ", b"s3gc-pack 2 "))
    with pytest.raises(VaultCorruptedError, match="newer version"):
        await read_pack_index(storage, "packs/1.pack")
    await storage.write("packs/1.pack", b"more" + whole)
    with pytest.raises(VaultCorruptedError, match="does not fit"):
        await read_pack_index(storage, "packs/1.pack")
    with pytest.raises(VaultCorruptedError, match="missing"):
        await read_pack_index(storage, "packs/2.pack")


def test_the_script_of_the_page_takes_an_object_out_by_zstd_alone(tmp_path: Path) -> None:
    """docs/restore.md, "Without s3gc": its script, as it stands there, over two packs and two parts."""
    page = (Path(__file__).parents[3] / "docs" / "restore.md").read_text()
    (script,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "unpack.py" in each]
    (tmp_path / "unpack.py").write_text(script)
    key, halves = "ä b.jpg", (b"first " * 999, b"second " * 999)
    frames = [zstandard.ZstdCompressor().compress(half) for half in halves]
    content = b"".join(halves)
    whole = entry(
        key=key,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        parts=(PackPart(1, 0, len(frames[0])), PackPart(2, 0, len(frames[1]))),
    )
    for part, frame in enumerate(frames):
        row = PackRow(key, part, 0, len(frame), len(halves[part]), "", whole if part else None)
        (tmp_path / f"00000{part + 1}.pack").write_bytes(frame + encode_tail([row], len(frame)))

    def unpack(wanted: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "unpack.py", ".", wanted], cwd=tmp_path, capture_output=True, check=False
        )

    assert unpack(key).stdout == content
    assert (unpack("other").returncode, unpack("other").stdout) == (1, b"")
    pack = tmp_path / "000002.pack"
    pack.write_bytes(pack.read_bytes().replace(frames[1], frames[1][:20] + b"!" + frames[1][21:]))
    assert (unpack(key).returncode, unpack(key).stdout) == (1, b"")
