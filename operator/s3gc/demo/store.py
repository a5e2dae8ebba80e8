"""A store inside the process: moto's S3 server on a free port of 127.0.0.1, gone when the demo ends.

Objects are put into its memory directly, with the age that the story needs; an S3 client cannot backdate an upload.
Everything that the engine does goes over HTTP like everywhere else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from s3gc.demo.shop import DemoObject
from s3gc.exceptions import ConfigurationError

__all__ = ["DemoStore", "demo_store"]

#: Any will do; moto asks for some. Only for the demo's own bucket, never looked up elsewhere.
_CREDENTIALS = {
    "S3GC_BUCKET_AWS_ACCESS_KEY_ID": "demo",
    "S3GC_BUCKET_AWS_SECRET_ACCESS_KEY": "demo",
}


class DemoStore:
    """The running store. `endpoint` is its address; the rest looks into its memory, past the engine."""

    def __init__(self, endpoint: str, backend: Any) -> None:
        self.endpoint = endpoint
        self._backend = backend

    def make_bucket(self, name: str) -> None:
        self._backend.create_bucket(name, "us-east-1")

    def put(self, bucket: str, objects: Sequence[DemoObject], now: datetime) -> None:
        """Put objects as old as they say."""
        for each in objects:
            stored = self._backend.put_object(bucket, each.key, each.body, storage=each.storage_class)
            stored.set_metadata({"Content-Type": each.content_type, "x-amz-meta-origin": each.fate})
            stored.last_modified = (now - timedelta(days=each.age_days)).astimezone(UTC).replace(tzinfo=None)

    def body(self, bucket: str, key: str) -> bytes | None:
        """An object's bytes as they lie in the store, None when it is not there."""
        stored = self._backend.get_object(bucket, key)
        return None if stored is None else bytes(stored.value)

    def keys(self, bucket: str) -> set[str]:
        """Every key that is in the bucket now."""
        return set(self._backend.get_bucket(bucket).keys)


@contextmanager
def demo_store() -> Iterator[DemoStore]:
    """Run a store on 127.0.0.1 while the block lasts. Raises ConfigurationError without the demo extra."""
    try:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise ConfigurationError(
            "the demo needs an embedded S3 server that is not installed: pip install 's3gc[demo]'"
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    before = {name: os.environ.get(name) for name in _CREDENTIALS}
    os.environ.update(_CREDENTIALS)
    try:
        host, port = server.get_host_and_port()
        yield DemoStore(f"http://{host}:{port}", s3_backends[DEFAULT_ACCOUNT_ID]["aws"])
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.stop()
