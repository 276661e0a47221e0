"""The one place where an error becomes words and an exit status.

    0 done   1 failed   2 usage   3 refused input   4 a dependency is unreachable   130 interrupted   141 the reader of stdout left

A `TangoError` is told in its own words on stderr; its `exit_status` is ours. Anything else is a defect and says so in a line.
A traceback appears only with `tango --debug` or TANGO_DEBUG set.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from tango.cli.output import printable
from tango.errors import TangoError

FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class TangoGroup(click.Group):
    """The outermost command group: adds `--debug` and maps every error to its exit status."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.debug = False
        self.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                envvar="TANGO_DEBUG",
                expose_value=False,
                is_eager=True,
                callback=self._note_debug,
                help="Show tracebacks of errors (or set TANGO_DEBUG).",
            )
        )

    def _note_debug(self, ctx: click.Context, param: click.Parameter, value: bool) -> None:
        self.debug = value

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and flush stdout here, where a reader that has left can still be met."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            if not _reader_left():
                raise
            _silence_stdout()
            raise click.exceptions.Exit(BROKEN_PIPE) from None
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, with our exit statuses; a command that returns an int exits with it."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(self.exit_status(args, prog_name, complete_var, **extra))

    def exit_status(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, complete_var: str | None = None, **extra: Any
    ) -> int:
        """Run the command line and give the status to exit with; errors have been told on stderr by then."""
        self.debug = False
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            self._trace()
            error.show()
            return USAGE if isinstance(error, click.FileError) else error.exit_code
        except (click.Abort, KeyboardInterrupt) as error:
            interrupted = isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
            _tell("Interrupted." if interrupted else "Aborted.")
            return INTERRUPTED if interrupted else FAILED
        except TangoError as error:
            self._trace()
            _tell(_message(error))
            return error.exit_status
        except Exception as error:
            self._trace()
            hint = "" if self.debug else "\nThis is a defect in Tango; `tango --debug ...` shows where."
            _tell(f"Error: unexpected {type(error).__name__}: {error}{hint}")
            return FAILED
        return result if isinstance(result, int) else 0

    def _trace(self) -> None:
        if self.debug:
            traceback.print_exc(file=sys.stderr)


def _message(error: TangoError) -> str:
    first, *rest = (str(error) or type(error).__name__).splitlines()
    return "\n".join([f"Error: {first}", *(f"  {line}" for line in rest)])


def _tell(message: str) -> None:
    click.echo("\n".join(printable(line) for line in message.split("\n")), err=True)


def _reader_left() -> bool:
    """Whether it is stdout that broke, and not some socket."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
