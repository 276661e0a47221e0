"""What may have been meant by a command, an option or a choice that there is not: said as for every other name, by `near_name`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

from tango.domain.near_names import near_name

_NOT_OF_CHOICE = re.compile(r"'(?P<given>.*)' is not one of ")


def with_suggestion(error: click.ClickException) -> click.ClickException:
    """The error with the name that was nearly given, in place of click's own guess; others as they are."""
    match error:
        case click.exceptions.NoSuchOption(ctx=click.Context() as ctx):
            known = [
                name
                for param in ctx.command.get_params(ctx)
                for name in (*param.opts, *param.secondary_opts)
                if name.startswith("--")
            ]
            return _meant(error, error.option_name, known)
        case click.exceptions.NoSuchCommand(ctx=click.Context(command=click.Group() as group) as ctx):
            return _meant(error, error.command_name, group.list_commands(ctx))
        case click.BadParameter(param=click.Parameter(type=click.Choice() as choice)):
            found = _NOT_OF_CHOICE.match(error.message)
            return _meant(error, found["given"], map(str, choice.choices)) if found else error
    return error


def _meant(error: click.UsageError, given: str, known: Iterable[str]) -> click.ClickException:
    near = near_name(given, known)
    message = f"{error.message.rstrip('.')}{near}."
    if isinstance(error, click.BadParameter):
        return click.BadParameter(message, ctx=error.ctx, param=error.param, param_hint=error.param_hint)
    return click.UsageError(message, ctx=error.ctx)
