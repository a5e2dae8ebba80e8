"""The tree in the docstring of `s3gc.exceptions` is the tree of its classes."""

from __future__ import annotations

import re

import pytest

from s3gc import exceptions
from s3gc.exceptions import S3GCError, exit_code, host_of, redact

LINE = re.compile(r"^ {4}([│├└─ ]*)(\w+Error) +(\d+) +\S", re.MULTILINE)


def written() -> dict[str, tuple[str | None, int]]:
    """Name -> parent and code, as the docstring draws them."""
    tree: dict[str, tuple[str | None, int]] = {}
    above: list[str] = []
    for drawn, name, code in LINE.findall(exceptions.__doc__ or ""):
        del above[len(drawn) // 4 :]
        tree[name] = (above[-1] if above else None, int(code))
        above.append(name)
    return tree


def defined() -> dict[str, tuple[str | None, int]]:
    classes = [each for each in vars(exceptions).values() if isinstance(each, type)]
    return {
        each.__name__: (None if each is S3GCError else each.__bases__[0].__name__, each.exit_code)
        for each in classes
        if issubclass(each, S3GCError)
    }


def test_the_docstring_draws_every_class_below_its_parent_with_its_code() -> None:
    assert written() == defined()


def test_every_class_is_public_and_says_what_it_is_for() -> None:
    for name in defined():
        assert name in exceptions.__all__
        assert getattr(exceptions, name).__doc__


def test_an_exit_code_for_whatever_ends_a_process() -> None:
    assert {name: exit_code(getattr(exceptions, name)("x")) for name in defined()} == {
        name: code for name, (_, code) in defined().items()
    }
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(ValueError("x")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://bob:s3cr3t@db/shop is down",
        "mysql://s3cr3t@db/shop",
        "postgresql://db/shop?password=s3cr3t&sslmode=require",
        "https://store/?token=s3cr3t",
    ],
)
def test_a_message_never_has_a_secret(text: str) -> None:
    assert "s3cr3t" not in S3GCError(text).message
    assert "s3cr3t" not in str(S3GCError(text))
    assert "s3cr3t" not in redact(redact(text))


def test_a_password_that_is_not_encoded_shows_nothing_of_itself() -> None:
    for url in (
        "postgresql://bob:s3/cr3t@db/shop",
        "postgresql://bob:s3#cr3t@db/shop",
        "mysql://bob:s3?cr3t@db/x",
    ):
        assert "cr3t" not in host_of(url)
