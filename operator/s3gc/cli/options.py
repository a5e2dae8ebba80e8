"""Options that commands share, declared once: where the policy comes from, how to print, how much to say.

A command is a function whose first parameter is `flags: Flags`; the decorator `command` adds the shared
options to what typer sees, collects them into `flags`, and runs the function under `runtime.guarded`, which
turns errors into one clear line and an exit code. So every command has the same options, spelled and
explained the same way.
"""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["Flags", "Mode", "Output", "command"]


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Mode(StrEnum):
    DRY_RUN = "dry_run"
    AUDIT_ONLY = "audit_only"
    EXECUTE = "execute"


@dataclass(frozen=True, slots=True)
class Flags:
    """What the shared options said. `values` are fields of S3GCConfig that were given, `assignments` those
    of --set.

    `output` is None where nobody asked for a form: then a terminal gets a table.
    """

    policy: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    output: Output | None = None
    debug: bool = False

    def again(self, needs: str) -> str:
        """How the policy was told, to be repeated in a command of that kind: `` -f policy.yaml``, or nothing."""
        words = ["-f", str(self.policy)] if self.policy is not None else []
        for name, _, _ in _SETS[needs]:
            value = self.values.get(name)
            if isinstance(value, str):
                words += [self.spelled(name), value]
        return f" {shlex.join(words)}" if words else ""

    def spelled(self, name: str) -> str:
        """The option of a field of S3GCConfig, as a person writes it."""
        for field_name, _, option in _SETS["cycle"]:
            if field_name == name:
                # typer takes an annotation's first name for its default
                names = map(str, (option.default, *(option.param_decls or ())))
                return next(each for each in names if each.startswith("--"))
        return name


_POLICY = "Policy (from a file, these flags, or S3GC_… variables)"
_GENERAL = "General"


def _option(*names: str, help: str, panel: str = _POLICY, **more: Any) -> Any:  # noqa: A002  typer's own word
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


_FILE = ("policy", Path | None, _option("--file", "-f", help="A BucketGC manifest.", metavar="POLICY.YAML"))
_SET = (
    "assignments",
    list[str] | None,
    _option("--set", help="Any other setting, by its name in docs/policy.md.", metavar="FIELD=VALUE"),
)
#: (field of S3GCConfig, type, option) of what is needed to open a vault
_VAULT = (
    ("vault_path", str | None, _option("--vault", help="A folder or s3://bucket/prefix.", metavar="PATH")),
    (
        "vault_endpoint_url",
        str | None,
        _option("--vault-endpoint-url", help="The vault's store.", metavar="URL"),
    ),
)
_BUCKET = (("bucket", str | None, _option("--bucket", "-b", help="The bucket to clean.", metavar="NAME")),)
_SCOPE = (
    ("name", str | None, _option("--name", help="Of the policy; default: the bucket's.", metavar="NAME")),
    ("region", str | None, _option("--region", help="AWS region of the bucket.", metavar="REGION")),
    ("endpoint_url", str | None, _option("--endpoint-url", help="Another store than AWS.", metavar="URL")),
    (
        "path_style",
        bool | None,
        _option("--path-style/--virtual-hosts", help="How the store's URLs are made."),
    ),
    (
        "prefixes",
        list[str] | None,
        _option("--prefix", help="What is in scope; repeatable.", metavar="PREFIX"),
    ),
    (
        "exclude_prefixes",
        list[str] | None,
        _option("--exclude-prefix", help="What is never touched; repeatable.", metavar="PREFIX"),
    ),
    (
        "base_urls",
        list[str] | None,
        _option("--base-url", help="Where the bucket is served; repeatable.", metavar="URL=KEYPREFIX"),
    ),
    (
        "foreign_hosts",
        list[str] | None,
        _option("--foreign-host", help="A host that is never this bucket; repeatable.", metavar="HOST"),
    ),
    (
        "tables",
        list[str] | None,
        _option(
            "--tables",
            "--table",
            help="Columns that reference objects, in $DATABASE_URL; repeatable.",
            metavar="TABLE:COL,COL",
        ),
    ),
    ("retention_days", float | None, _option("--retention-days", help="Minimum age.", metavar="DAYS")),
    (
        "unreferenced_days",
        float | None,
        _option("--unreferenced-days", help="Minimum time without a reference.", metavar="DAYS"),
    ),
)
_OUTPUT = (
    "output",
    Output | None,
    _option("--output", "-o", help="How to print.", panel=_GENERAL, metavar="table|json|yaml"),
)
_DEBUG = (
    "debug",
    bool,
    _option("--debug", help="Show tracebacks and what the engine logs.", panel=_GENERAL, envvar="S3GC_DEBUG"),
)
_SETS = {
    "cycle": (*_BUCKET, *_SCOPE, *_VAULT),
    # a restore's own --prefix says which keys, and it needs no database
    "bucket": (*_BUCKET, *_SCOPE[:4], *_VAULT),
    "vault": (*_BUCKET, *_VAULT),
    "none": (),
}


def command(
    needs: str = "cycle", *, output: type[StrEnum] | None = Output, long_running: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a typer command of ``f(flags, …)``. `needs` is what of a policy it takes: cycle, bucket, vault or
    none.

    `output` None leaves --output to the command. `long_running` commands log JSON lines where nobody watches.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        values = _SETS[needs]
        shared = [*((_FILE,) if needs != "none" else ()), *values, *((_SET,) if needs != "none" else ())]
        if output is not None:
            shared.append(_OUTPUT)
        shared.append(_DEBUG)
        signature = inspect.signature(function, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if kind is bool else None,
                annotation=Annotated[kind, option],
            )
            for name, kind, option in shared
        ]

        @functools.wraps(function)
        def wrapper(**given: Any) -> None:
            from s3gc.cli.runtime import guarded

            flags = Flags(
                policy=given.pop("policy", None),
                values={
                    name: value for name, _, _ in values if (value := given.pop(name, None)) not in (None, [])
                },
                assignments=tuple(given.pop("assignments", None) or ()),
                output=given.pop("output", None) if output is not None else None,
                debug=given.pop("debug"),
            )
            guarded(lambda: function(flags, **given), debug=flags.debug, log_json=long_running)

        keyword_own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        whole = signature.replace(parameters=[*keyword_own, *added], return_annotation=None)
        wrapper.__signature__ = whole  # type: ignore[attr-defined]  # what inspect.signature and typer read
        wrapper.__annotations__ = {name: part.annotation for name, part in whole.parameters.items()}
        return wrapper

    return decorate
