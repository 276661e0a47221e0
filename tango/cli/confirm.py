"""Before something is changed, destroyed or written over: `--dry-run`, a question on a terminal, `--yes` or `--force` from a script."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tango.cli.output import say
from tango.errors import UsageError
from tango.files import usable

_F = TypeVar("_F", bound=Callable[..., Any])


def yes_option(function: _F) -> _F:
    """Decorator that adds `--yes`; the command receives it as the argument `yes`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def require_yes(yes: bool, what: str) -> None:
    """Ask whether `what` is to be done, unless `--yes` said so.

    Raises: UsageError without a terminal to ask on; click.Abort (exit status 1) for any other answer than yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: say --yes to do it, as nobody can be asked here")
    click.confirm(f"{what}?", abort=True, err=True)


def dry_run_option(function: _F) -> _F:
    """Decorator that adds `--dry-run`; the command receives it as the argument `dry_run`, and says what it would do by `would`."""
    return click.option("--dry-run", is_flag=True, help="Only say what would be done, and check that it can be.")(function)


def would(what: str) -> None:
    """Say on stderr what would be done without `--dry-run`."""
    say(f"would {what}; nothing was changed")


def force_option(function: _F) -> _F:
    """Decorator that adds `--force`; the command receives it as the argument `force`."""
    return click.option("--force", is_flag=True, help="Write over a file that is there.")(function)


def require_free(path: Path | None, force: bool) -> None:
    """Ask whether a file that is there is to be written over, unless `--force` said so. Called before long work.

    What is no regular file, such as /dev/stdout, is never asked for. Raises: UsageError without a terminal to ask on; click.Abort.
    """
    if path is None or force or not path.is_file():
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{path} is there already: name another file, or say --force to write over it")
    click.confirm(f"{path} is there already; write over it?", abort=True, err=True)


PAGE_MARK = b'<meta name="generator" content="Tango '
_HEAD_BYTES = 2_000
"""What is read of a file to find the mark: it stands in the first lines of every page."""


def require_free_page(path: Path | None, force: bool) -> None:
    """As `require_free`; an older page of Tango's may be replaced, since it can be made again. Raises: as `require_free`."""
    if path is not None and path.is_file():
        with usable(path, "read"), path.open("rb") as file:
            if PAGE_MARK in file.read(_HEAD_BYTES):
                return
    require_free(path, force)
