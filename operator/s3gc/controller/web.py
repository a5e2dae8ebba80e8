"""The operator's HTTP side: probes for the kubelet, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from s3gc.controller.health import Health
from s3gc.controller.metrics import Meters
from s3gc.exceptions import ConfigurationError

__all__ = ["serving"]


@asynccontextmanager
async def serving(host: str, port: int, health: Health, meters: Meters) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` while the block runs; gives the port, for 0 the one that was free."""

    async def healthz(_: web.Request) -> web.Response:
        trouble = health.trouble()
        return web.Response(text=trouble or "ok", status=503 if trouble else 200)

    async def readyz(_: web.Request) -> web.Response:
        if health.is_ready:
            return web.Response(text="ok")
        return web.Response(text="not everything was listed yet", status=503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=meters.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
