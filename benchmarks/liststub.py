"""The tests' stub of S3's listing over the corpus, as a process of its own: ``python -m benchmarks.liststub --keys N``.

Up to two million entries are rendered once; beyond that each page is rendered when it is asked for, so that ten
million need no memory (and the stub is then the slower side: its CPU is not counted, its wall is).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from tests.stub.server import Fault, Seen, Stub, serve_stub

from benchmarks import corpus
from benchmarks.harness import ROOT

RENDERED = 2_000_000


def _entry_of(number: int, key: str) -> bytes:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{corpus.OLD}</LastModified><ETag>&quot;{number:032x}&quot;</ETag>"
        f"<Size>{1000 + number % 1048576}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    ).encode()


class CorpusStub(Stub):
    """The corpus, all old; no version control, no lock. Everything else is the stub's."""

    def render(self) -> None:
        count = len(self.keys)
        if count > RENDERED:
            return
        buffer, self._offsets = bytearray(), array("Q", [0])
        for number in range(count):
            buffer += _entry_of(number, corpus.key(number))
            self._offsets.append(len(buffer))
        self._buffer = bytes(buffer)

    def _entry(self, first: int, end: int) -> bytes:
        if self._buffer:
            return super()._entry(first, end)
        return b"".join(_entry_of(number, corpus.key(number)) for number in range(first, end))

    def respond(self, seen: Seen) -> tuple[int, dict[str, str], bytes] | Fault:
        if seen.target.partition("?")[2].startswith("versioning"):
            return 200, {}, b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
        return super().respond(seen)


@contextmanager
def start(keys: int) -> Iterator[str]:
    """Serve the first `keys` keys; gives the endpoint. The bucket's name is `tests.stub.server.BUCKET`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.liststub", "--keys", str(keys)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        endpoint = process.stdout.readline().strip()
        if not endpoint:
            raise RuntimeError("the stub of S3's listing did not start")
        yield endpoint
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


async def _serve(count: int) -> None:
    keys = corpus.Keys(count)
    stub = CorpusStub(keys if count > RENDERED else list(keys), keep_requests=False)  # type: ignore[arg-type]  # a sequence will do
    stub.render()
    async with serve_stub(stub):
        print(stub.endpoint, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # ends with whoever started it


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    asyncio.run(_serve(parser.parse_args().keys))
