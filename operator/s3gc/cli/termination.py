"""Last words: what a pod leaves in its termination message, however the command ends.

A controller that reads no logs learns nothing else. So an error, a stop and a deadline leave a short result as well as
success does, and what cannot be written (no such file outside of a pod) is no reason to fail.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from s3gc.exceptions import RefusedError, S3GCError, redact
from s3gc.results import GCMetrics, GCResult, Outcome, RestoreResult

__all__ = ["LastWords", "last_words"]


class LastWords:
    """What will be said at the end. The last thing that is set counts; nothing set: the error that ended it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._text: str | None = None

    @property
    def are_wanted(self) -> bool:
        return self._path is not None

    def cycle(self, result: GCResult, metrics: GCMetrics | None = None) -> None:
        from s3gc.report.json import short_result

        self._text = short_result(result, metrics=metrics)

    def restore(self, result: RestoreResult) -> None:
        from s3gc.report.json import short_restore

        self._text = short_restore(result)

    def error(self, error: BaseException) -> None:
        """An error with no result. A result that was set already says more and stays."""
        if self._text is not None:
            return
        from s3gc.cli.runtime import Stopped

        outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.FAILED
        if isinstance(error, S3GCError):
            message = error.message
        elif isinstance(error, Stopped):
            message = f"stopped by {error} before anything was deleted; the next run carries on"
        else:
            message = redact(f"unexpected {type(error).__name__}: {error}")
        short: dict[str, object] = {"outcome": outcome, "errors": [message[:1000]], "guards": []}
        if isinstance(error, S3GCError) and isinstance(reason := error.details.get("reason"), str):
            short["reason"] = reason
        if isinstance(error, RefusedError) and "guard" in error.details:
            short["guards"] = [{"guard": str(error.details["guard"]), "waivable": False, "waived": False}]
        self._text = json.dumps(short, ensure_ascii=False)

    def say(self) -> None:
        if self._path is None or self._text is None:
            return
        with contextlib.suppress(OSError):
            self._path.write_text(self._text, encoding="utf-8")


@contextlib.contextmanager
def last_words(path: Path | None) -> Iterator[LastWords]:
    """Leave last words in `path` when the block ends, in whatever way."""
    words = LastWords(path)
    try:
        yield words
    except BaseException as error:
        words.error(error)
        raise
    finally:
        words.say()
