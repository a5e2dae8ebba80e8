"""Running a command: its event loop and signals, its errors as one clear line, its exit code.

A first SIGTERM or SIGINT cancels the work, which ends in good order: the group under way is finished and
checked, the lock is released. A second one ends the process at once, which is safe as well (the journal
says what happened; the next run recovers), so the second is left to the system.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import typer

from s3gc.exceptions import EXIT_STOPPED, S3GCError, exit_code, redact

__all__ = ["Stopped", "guarded", "log_line", "run_async", "watched"]

_T = TypeVar("_T")

log = logging.getLogger("s3gc.cli")


class Stopped(Exception):  # noqa: N818  not an error: somebody asked for it
    """The command was asked to stop and did so in good order."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 130 if number == signal.SIGINT else EXIT_STOPPED


def watched() -> bool:
    """Whether a person looks at standard error."""
    return sys.stderr.isatty()


def log_line(level: str, event: str, **facts: object) -> None:
    """Write one JSON line to standard error, as a log collector takes it."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        **facts,
    }
    sys.stderr.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    sys.stderr.flush()


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log_line(record.levelname.lower(), "log", logger=record.name, message=redact(record.getMessage()))


class _Plain(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{record.levelname.lower()}: {redact(record.getMessage())}\n")


def guarded(work: Callable[[], None], *, debug: bool, log_json: bool) -> None:
    """Run a command's body; end with the exit code that its error has, after saying what happened."""
    as_json = log_json and not watched()
    handler: logging.Handler = _JsonLines() if as_json else _Plain()
    root = logging.getLogger("s3gc")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if debug else logging.INFO if as_json else logging.WARNING)
    try:
        work()
    except typer.Exit:
        raise
    except Stopped as stopped:
        _say(
            as_json,
            "warning",
            "stopped",
            "stopped in good order; the next run carries on",
            signal=str(stopped),
        )
        raise typer.Exit(stopped.exit_code) from None
    except BrokenPipeError:
        raise
    except S3GCError as error:
        if debug:
            traceback.print_exc()
        facts = {key: value for key, value in error.details.items() if key != "errors"}
        _say(as_json, "error", "failed", error.message, error=type(error).__name__, **facts)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt:
        _say(as_json, "warning", "interrupted", "interrupted")
        raise typer.Exit(130) from None
    except Exception as error:  # noqa: BLE001  the last line of defence: a person sees a sentence, not a traceback
        if debug:
            traceback.print_exc()
        hint = "" if debug else "; run again with --debug for the traceback"
        message = redact(f"unexpected {type(error).__name__}: {error}") + hint
        _say(as_json, "error", "failed", message, error=type(error).__name__)
        raise typer.Exit(1) from None


def _say(as_json: bool, level: str, event: str, message: str, **facts: object) -> None:
    if as_json:
        log_line(level, event, message=message, **facts)
        return
    from rich.console import Console
    from rich.text import Text

    colour = {"error": "bold red", "warning": "bold yellow"}[level]
    word = "error" if level == "error" else "s3gc"
    Console(stderr=True, soft_wrap=True).print(Text.assemble((f"{word}: ", colour), message))


def run_async(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run `work` in an event loop that ends in good order on SIGTERM and SIGINT (raising Stopped)."""

    async def supervised() -> _T:
        with _signals() as received:
            try:
                return await work()
            except asyncio.CancelledError:
                if received:
                    raise Stopped(received[0]) from None
                raise

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(supervised())


@contextmanager
def _signals() -> Iterator[list[int]]:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # the second one is the system's to deliver
        log.warning("stopping after the group under way; send the signal again to end at once")
        if task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield received
    finally:
        if not received:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
