"""Start the application with everything it needs inside: an S3 server in this process, SQLite, some users and posts.

    make example-app                                        or
    python -m examples.fastapi_app.start [--port 8000] [--folder s3gc-example]

Ctrl-C ends all of it. The S3 server keeps its objects in memory, so each start begins anew.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from s3gc.demo.shop import DemoObject
from s3gc.demo.store import demo_store

from .tables import Base, Post, User

BUCKET = "app-files"
_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances", "Tony", "Radia")
#: What this makes has this file in it, and only such a folder is ever made anew.
_MARK = ".s3gc-example"


def main() -> None:
    parser = argparse.ArgumentParser(description="An application with s3gc inside.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path("s3gc-example"))
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise SystemExit(f"{folder} is not empty and none of ours; give another --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    with demo_store() as store:
        token = os.environ.setdefault("S3GC_ADMIN_API_KEY", secrets.token_urlsafe(24))
        database_url = f"sqlite:///{folder / 'app.db'}"
        os.environ.update(
            APP_BUCKET=BUCKET,
            APP_S3_ENDPOINT=store.endpoint,
            APP_VAULT=str(folder / "vault"),
            APP_RETENTION_DAYS="1",
            DATABASE_URL=database_url,
            AWS_ACCESS_KEY_ID="demo",
            AWS_SECRET_ACCESS_KEY="demo",
            AWS_DEFAULT_REGION="us-east-1",
        )
        store.make_bucket(BUCKET)
        store.put(BUCKET, _fill(database_url), datetime.now(UTC))
        print(f"the application  http://127.0.0.1:{options.port}/")
        print(f"s3gc's console   http://127.0.0.1:{options.port}/admin/s3gc/")
        print(f"its token        {token}", flush=True)
        uvicorn.run("examples.fastapi_app.main:app", port=options.port, log_level="warning")


def _fill(database_url: str) -> list[DemoObject]:
    """Make users and posts, and return the files that they have, or once had."""
    objects: list[DemoObject] = []

    def file(key: str, number: int, age_days: float, fate: str) -> str:
        objects.append(DemoObject(key, _picture(number), "image/png", age_days, fate))
        return key

    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number, name in enumerate(_NAMES):
            user = User(name=name, avatar_key=file(f"avatars/{number}-now.png", number, 20, "referenced"))
            for earlier in range(number % 3):  # pictures that were replaced
                file(
                    f"avatars/{number}-before-{earlier}.png",
                    number + 40 * earlier,
                    90 + 40 * earlier,
                    "replaced",
                )
            for at in range(3):
                cover = file(f"covers/{number}-{at}.png", 7 * number + at, 60, "referenced")
                image = file(f"images/{number}-{at}.png", 11 * number + at, 60, "referenced")
                body = f"Once upon a time.\n\n![](/files/{image})\n"
                user.posts.append(
                    Post(title=f"{name}'s post {at + 1}", body=body, cover_url=f"/files/{cover}")
                )
            session.add(user)
        for number in range(6):  # of posts that were deleted
            file(f"covers/deleted-{number}.png", 90 + number, 45, "deleted")
            file(f"images/deleted-{number}.png", 97 + number, 45, "deleted")
        file("images/uploaded-just-now.png", 5, 0.1, "young")
    engine.dispose()
    return objects


def _picture(number: int, size: int = 48) -> bytes:
    """A small PNG of one colour."""
    colour = bytes((70 + number * 37 % 180, 70 + number * 59 % 180, 70 + number * 83 % 180))
    rows = (b"\0" + colour * size) * size

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    main()
