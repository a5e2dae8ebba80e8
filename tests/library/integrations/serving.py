"""A real uvicorn process, and requests to it with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.testbed.services import free_port

ROOT = Path(__file__).parents[3]
TOKEN = "a-long-random-text-for-tests-0123456789"
BASE = "/admin/s3gc"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """`uvicorn` with an application, on a port of its own."""

    folder: Path
    environment: dict[str, str]
    application: str = "tests.library.integrations.served:app"
    options: tuple[str, ...] = ()
    token: str | None = TOKEN
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "uvicorn.log").read_text(errors="replace")

    @property
    def diary(self) -> list[str]:
        path = self.folder / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}:{self.folder}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "SERVED_DIARY": str(self.folder / "diary"),
            **({"S3GC_ADMIN_API_KEY": self.token} if self.token is not None else {}),
            **self.environment,
        }
        with (self.folder / "uvicorn.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", self.application, "--port", str(self.port)),
                    *("--log-level", "info", *self.options),
                ],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: self.is_up, "the server answers")

    @property
    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            return self.get("/openapi.json", token=None).status == 200
        except OSError:
            return False

    def until(self, holds: Any, what: str, seconds: float = 60) -> Any:
        """Wait for a state; what it is is said where it does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := holds():
                return value
            time.sleep(0.05)
        raise AssertionError(f"never: {what}\n{self.log[-4000:]}")

    def terminate(self, seconds: float = 60) -> None:
        """SIGTERM, and the end in good order: uvicorn raises the signal again when it is done."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=seconds) in (0, -signal.SIGTERM), self.log
        assert "Traceback" not in self.log, self.log

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # --- requests

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = TOKEN,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = 60,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body=content, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **how: Any) -> Answer:
        return self.request("GET", path, **how)

    def post(self, path: str, **how: Any) -> Answer:
        return self.request("POST", path, **how)

    def idle(self) -> bool:
        """Whether nothing runs, in any worker process."""
        status = self.get(f"{BASE}/status").json
        return status["running"] is None and status["busy"] is None

    def run(self, query: str = "") -> Any:
        """One cycle to its end."""
        answer = self.post(f"{BASE}/run?wait=true{query}", seconds=120)
        assert answer.status == 200, answer.body
        return answer.json

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """The stream of events, as (name, data)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"{BASE}/events", headers={"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("content-type", "").startswith("text/event-stream")

        def read() -> Iterator[tuple[str, Any]]:
            name = ""
            while line := response.readline().decode():
                word, _, rest = line.rstrip("\n").partition(": ")
                if word == "event":
                    name = rest
                elif word == "data":
                    yield name, json.loads(rest)

        try:
            yield read()
        finally:
            connection.close()
