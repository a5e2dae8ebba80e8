"""`make example-app`: started as a reader starts it, used as a browser uses it, swept and restored."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.library.integrations.serving import BASE, Served

ROOT = Path(__file__).parents[3]


class Example(Served):
    """The application with its own S3 server and database inside; `make` only finds the interpreter."""

    def start(self) -> None:
        self.environment["PYTHONPATH"] = str(ROOT / "operator")
        with (self.folder / "uvicorn.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "examples.fastapi_app.start"),
                    *("--port", str(self.port), "--folder", str(self.folder / "example")),
                ],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: self.is_up, "the application answers")

    def upload(self, path: str, field: str, name: str, content: bytes, **texts: str) -> Any:
        """A form with one file, as a browser sends it."""
        mark = uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{each}"\r\n\r\n{text}\r\n'.encode()
            for each, text in texts.items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n")
        body = b"".join(parts) + f"--{mark}--\r\n".encode()
        answer = self.post(path, body=body, headers={"Content-Type": f"multipart/form-data; boundary={mark}"})
        assert answer.status in (200, 201), answer.body
        return answer.json


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    import os

    from tests.library.integrations.serving import TOKEN

    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "S3GC_ADMIN_API_KEY": TOKEN}
    served = Example(tmp_path, environment)
    served.start()
    yield served
    served.close()


def test_the_example_application_starts_on_one_command_and_is_swept(example: Example) -> None:
    users = example.get("/users").json
    assert len(users) == 8
    assert example.get("/").body.count(b"<li>") == 8 + 24

    # a new picture, and a post with an image in its text: their files are referenced at once
    changed = example.upload("/users/1/avatar", "avatar", "me.png", b"\x89PNG new")
    post = example.upload("/users/1/posts", "image", "a.png", b"\x89PNG image", title="Hello", body="text")
    image = post["body"].split("](/files/")[1].partition(")")[0]
    assert example.get(f"/files/{image}").body == b"\x89PNG image"

    # a deleted post leaves its two files
    gone = example.get("/posts").json[0]
    assert example.request("DELETE", f"/posts/{gone['id']}").status == 204

    waiting = example.run()
    assert waiting["outcome"] == "AwaitingApproval", waiting
    # 7 replaced pictures, 12 files of posts that were deleted before, and now 3: the picture and the two files
    assert (waiting["planned_objects"], waiting["young_count"]) == (7 + 12 + 3, 3)
    operation_id = waiting["operation_id"]
    approved = example.post(
        f"{BASE}/operations/{operation_id}/approve", body={"plan_digest": waiting["plan_digest"]}
    )
    assert approved.status == 200, approved.body
    done = example.run()
    assert (done["operation_id"], done["outcome"], done["deleted_count"]) == (
        operation_id,
        "Succeeded",
        22,
    ), done
    assert example.get(f"/files/{users[0]['avatar_key']}").status == 404
    assert example.get(f"/files/{changed['avatar_key']}").status == 200
    for user in example.get("/users").json:
        assert example.get(f"/files/{user['avatar_key']}").status == 200

    key = users[0]["avatar_key"]
    restored = example.post(f"{BASE}/restore/{operation_id}", body={"dry_run": False, "keys": [key]})
    assert restored.json["restored_count"] == 1, restored.body
    assert example.get(f"/files/{key}").status == 200
