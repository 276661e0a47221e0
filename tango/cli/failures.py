"""The one place where an error becomes words and an exit status.

    0 done   1 failed   2 usage   3 refused input   4 a dependency is unreachable   130 interrupted   141 the reader of stdout left

A `TangoError` is told in its own words on stderr; its `exit_status` is ours. Anything else is a defect and says so in a line.
A traceback appears only with `tango --debug` or TANGO_DEBUG set.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from tango.cli.output import printable
from tango.errors import TangoError

FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def run_reporting_failures(command: click.Command, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and leave the process with its exit status.

    Leaves at once: native libraries keep threads (Arrow's readers), and the destructors that run at an ordinary exit abort the process
    now and then because such a thread is still there (apache/arrow#34314). Everything that a command has to close is closed by then.
    """
    status = exit_status(command, args)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def exit_status(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command line and give the status to exit with; errors have been told on stderr by then.

    A command that returns an int exits with it. Tracebacks are shown when `--debug` is among the arguments or TANGO_DEBUG is set.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments or os.environ.get("TANGO_DEBUG", "") not in ("", "0")
    try:
        result = command.main(arguments, prog_name="tango", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # the outermost edge: everything becomes words and a status here
        if debug and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            traceback.print_exc(file=sys.stderr)
        return _status_of(error, debug=debug)
    return result if isinstance(result, int) else 0


def _status_of(error: BaseException, *, debug: bool) -> int:
    match error:
        case SystemExit() | BrokenPipeError() if _reader_left():  # click turns a broken pipe into SystemExit
            _silence_stdout()
            return BROKEN_PIPE
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED if error.code else 0
        case click.FileError():
            error.show()
            return USAGE
        case click.ClickException():
            error.show()
            return error.exit_code
        case KeyboardInterrupt():
            _tell("Interrupted.")
            return INTERRUPTED
        case click.Abort():
            interrupted = isinstance(error.__cause__, KeyboardInterrupt)
            _tell("Interrupted." if interrupted else "Aborted.")
            return INTERRUPTED if interrupted else FAILED
        case TangoError():
            _tell(_message(error))
            return error.exit_status
        case _:
            hint = "" if debug else "\nThis is a defect in Tango; `tango --debug ...` shows where."
            _tell(f"Error: unexpected {type(error).__name__}: {error}{hint}")
            return FAILED


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
