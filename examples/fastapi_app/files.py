"""Files in S3: put and read, and never deleted. Nobody dares to: that is what s3gc is for."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class Files:
    """A bucket. Keys are new each time, so that a browser's cache is never wrong."""

    def __init__(self, bucket: str, endpoint_url: str | None) -> None:
        self._bucket = bucket
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            config=Config(s3={"addressing_style": "path" if endpoint_url else "auto"}),
        )

    def put(self, folder: str, name: str, content: bytes, content_type: str) -> str:
        """Keep a file and return its key."""
        suffix = PurePosixPath(name).suffix.lower()[:8]
        key = f"{folder}/{uuid.uuid4().hex}{suffix}"
        self._client.put_object(Bucket=self._bucket, Key=key, Body=content, ContentType=content_type)
        return key

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A file and its type; None when there is none."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return answer["Body"].read(), answer["ContentType"]
