"""Things that go wrong outside of s3gc: a connection that is cut, a disk that is full or read-only."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["SmallDisk", "proxy", "small_disk"]


@contextlib.contextmanager
def proxy(
    endpoint: str,
    *,
    cut: Callable[[str, str], bool] = lambda method, path: False,
    refuse: Callable[[str, str, Message], bytes] = lambda method, path, headers: b"",
) -> Iterator[str]:
    """A proxy in front of a store. An answer to a request for which ``cut(method, path)`` ends in the middle; one for
    which ``refuse(method, path, headers)`` gives a body is answered 400 with it.

    The request goes on exactly as it came, Host included, so its signature stays valid.
    """
    upstream = urlsplit(endpoint)

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refusal = refuse(self.command, self.path, self.headers)
            if refusal:
                self.send_response_only(400)
                self.send_header("Content-Length", str(len(refusal)))
                self.end_headers()
                self.wfile.write(refusal)
                return
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body or None)
                answer = connection.getresponse()
                content = answer.read()
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                if length is not None:
                    self.send_header("Content-Length", length)
                self.end_headers()
                if cut(self.command, self.path):
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(content)
            finally:
                connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815  the names http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's own word
            """Say nothing: what the client makes of it is under test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, name="proxy")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class SmallDisk:
    """A folder with little room. `limit` is to be called in a process before it runs (for those who may not mount)."""

    def __init__(self, folder: Path, limit: Callable[[], None] | None) -> None:
        self.folder, self.limit = folder, limit

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A file system of `size` bytes at `folder` for root; for others a folder in which no file may be larger."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield SmallDisk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "s3gc-test", str(folder)], check=True)
    try:
        yield SmallDisk(folder, None)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
