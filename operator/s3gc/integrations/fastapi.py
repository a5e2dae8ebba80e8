"""s3gc inside a FastAPI application: endpoints, a console, daily runs, and a start and an end with the application.

    app = FastAPI()
    setup_s3gc_plugin(app, create_config(bucket="my-bucket"))

The rooms behind this door are in `integrations.admin`; docs/fastapi.md has the endpoints.
"""

from __future__ import annotations

try:
    from fastapi import FastAPI
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        "s3gc.integrations.fastapi needs FastAPI: pip install 's3gc[fastapi]'", name="fastapi"
    ) from None

from s3gc.config import S3GCConfig
from s3gc.exceptions import ConfigurationError
from s3gc.integrations.admin.answers import Answers
from s3gc.integrations.admin.auth import Gate
from s3gc.integrations.admin.console import Console
from s3gc.integrations.admin.lifespan import Life, wrap_lifespan
from s3gc.integrations.admin.routes import add_routes
from s3gc.integrations.admin.runs import Runs
from s3gc.integrations.admin.runtime import Runtime
from s3gc.integrations.admin.scheduler import Scheduler
from s3gc.schedule import ScheduleError

__all__ = ["setup_s3gc_plugin"]


def setup_s3gc_plugin(
    app: FastAPI, config: S3GCConfig, *, prefix: str = "/admin/s3gc", time_zone: str | None = None
) -> None:
    """Add s3gc to an application: endpoints under `prefix`, and its start and end around the application's lifespan.

    `schedule_cron` of the policy runs daily (or by five cron fields) in `time_zone`, by default the policy's own, which
    is UTC unless it says otherwise. The endpoints need the token of `S3GC_ADMIN_API_KEY`; without it on the server each
    answers 503. Nothing is opened before the application starts. Call it once a policy; two policies need two prefixes.
    Raises ConfigurationError for a prefix, a schedule or a time zone that is none.
    """
    if not prefix.startswith("/") or prefix.endswith("/") or any(part in prefix for part in "{}?# "):
        raise ConfigurationError(
            f"prefix {prefix!r} is not a path of its own: write it like /admin/s3gc, without a slash at its end"
        )
    if time_zone is not None:
        config = config.with_updates(time_zone=time_zone)
    try:
        runtime = Runtime(config, prefix)
    except ScheduleError as error:
        raise ConfigurationError(f"schedule_cron: {error}") from None
    runs = Runs(runtime)
    scheduler = Scheduler(runtime, runs)
    tag = "s3gc" if config.name == "" else f"s3gc {config.name}"
    answers = Answers(runtime, runs, scheduler)
    add_routes(app, answers, Gate(), Console(), prefix=prefix, tag=tag)
    wrap_lifespan(app, Life(runtime, runs, scheduler))
