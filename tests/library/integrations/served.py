"""The application that the tests serve: one of its own, with a lifespan and routes, and the plugin in it.

`uvicorn tests.library.integrations.served:app`, with the policy's keywords as JSON in SERVED_POLICY.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException

from s3gc import create_config
from s3gc.integrations.fastapi import setup_s3gc_plugin

DIARY = Path(os.environ["SERVED_DIARY"])


def note(word: str) -> None:
    with DIARY.open("a") as file:
        file.write(f"{word}\n")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    note("application started")
    yield {"answer": 42}
    note("application ended")


later = APIRouter()


@later.get("/later")
async def read_later() -> dict[str, str]:
    return {"from": "a router that was included after the plugin"}


@contextlib.asynccontextmanager
async def later_lifespan(app: FastAPI) -> AsyncIterator[None]:
    note("router started")
    yield
    note("router ended")


app = FastAPI(title="Shop", lifespan=lifespan)
setup_s3gc_plugin(
    app, create_config(**json.loads(os.environ["SERVED_POLICY"])), time_zone=os.environ.get("SERVED_ZONE")
)
later.lifespan_context = later_lifespan
app.include_router(later)


@app.get("/items/{number}")
async def read_item(number: int) -> dict[str, int]:
    if number == 404:
        raise HTTPException(404)
    return {"number": number}
