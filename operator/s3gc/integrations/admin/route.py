"""A route of ours: the token before anything else, problems for every error, and nothing for a cache to keep."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from s3gc.integrations.admin.auth import Gate
from s3gc.integrations.admin.problems import response_to

__all__ = ["guarded_route"]


def guarded_route(gate: Gate) -> type[APIRoute]:
    """The class of routes behind `gate`: an `APIRoute`, so that the application's handlers stay as they are."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    gate.admit(request)  # before a body is read or a parameter judged
                    response = await handle(request)
                except Exception as error:  # noqa: BLE001  every error of ours is answered as a problem
                    response = response_to(error, request)
                response.headers.setdefault("Cache-Control", "no-store")
                response.headers.setdefault("X-Content-Type-Options", "nosniff")
                return response

            return guarded

    return GuardedRoute
