"""The shop of `make demo-cluster`: objects in a bucket, rows that reference most of them. A Job in s3gc's own image.

python seed.py fill      make the buckets, 60 objects, and two tables that reference 45 of them
python seed.py look      say what is in the bucket, and whether each object is as it was
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import asyncpg
import botocore.session
from botocore.exceptions import ClientError

BUCKET, VAULT = "shop-media", "shop-vault"
KEYS = [f"avatars/{number:03d}.jpg" for number in range(40)] + [
    f"posts/{number:03d}.png" for number in range(20)
]
REFERENCED = KEYS[:30] + KEYS[40:55]


def body(key: str) -> bytes:
    return f"the bytes of {key}\n".encode() * 200


def store() -> Any:
    return botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=os.environ["DEMO_S3"]
    )


async def database() -> asyncpg.Connection:
    """The database starts beside us: it is given a minute."""
    for _ in range(60):
        try:
            return await asyncpg.connect(os.environ["DEMO_DATABASE"], timeout=5)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(1)
    raise SystemExit("the database does not answer")


async def fill() -> None:
    client = store()
    for bucket in (BUCKET, VAULT):
        for attempt in range(60):
            try:
                client.create_bucket(Bucket=bucket)
                break
            except client.exceptions.BucketAlreadyOwnedByYou:
                break
            except Exception:  # the store starts beside us
                if attempt == 59:
                    raise
                await asyncio.sleep(1)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        client.put_object(
            Bucket=BUCKET, Key=key, Body=body(key), ContentType="image/jpeg", Metadata={"of": "the demo"}
        )
    connection = await database()
    await connection.execute(
        "DROP TABLE IF EXISTS users, posts;"
        "CREATE TABLE users (id serial PRIMARY KEY, avatar_url text);"
        "CREATE TABLE posts (id serial PRIMARY KEY, body text)"
    )
    for key in REFERENCED:
        if key.startswith("avatars/"):
            await connection.execute(
                "INSERT INTO users (avatar_url) VALUES ($1)", f"https://cdn.shop.example/{key}?v=2"
            )
        else:
            await connection.execute(
                "INSERT INTO posts (body) VALUES ($1)", f'<p>Look: <img src="/{key}"></p>'
            )
    await connection.close()
    print(
        f"{len(KEYS)} objects in {BUCKET}; rows of users and posts name {len(REFERENCED)} of them", flush=True
    )
    await asyncio.sleep(3)  # an object as young as the listing is never judged


def look() -> None:
    client = store()
    same = missing = other = 0
    for key in KEYS:
        try:
            found = client.get_object(Bucket=BUCKET, Key=key)
        except ClientError:
            missing += 1
            continue
        if found["Body"].read() == body(key) and found["Metadata"] == {"of": "the demo"}:
            same += 1
        else:
            other += 1
    print(f"{same} objects are as they were, {missing} are gone, {other} differ", flush=True)


if sys.argv[1:] == ["fill"]:
    asyncio.run(fill())
else:
    look()
