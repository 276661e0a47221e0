"""The one place that turns an exception into a message and an exit status (`EXIT_CODES`).

A `TangoError` prints its own message on stderr, and its `exit_status` becomes the command's. Any other exception is a defect, and the
message says so, but for a file or disk that the system refuses. A traceback is printed only with `tango --debug` or TANGO_DEBUG set.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from tango.cli.output import printable
from tango.cli.suggestions import with_suggestion
from tango.errors import TangoError

FAILED = 1
USAGE = 2
"""As click has them, and most commands of Unix."""
# As a shell reports a process that a signal ended: 128 + the signal's number.
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE


EXIT_CODES = {
    0: "done",
    FAILED: "failed, or what was asked is not so (`status` without a stack, --min-qos not met)",
    USAGE: "usage: an option or a variable, a name or file that there is not",
    3: "refused: a trace or checkpoint, what stands in a file, request, job or query; a key that is taken, a job too many",
    4: "something does not answer, or refuses the login: database, broker, cluster, gateway",
    124: "a wait ran out (--timeout); what was waited for goes on",
    INTERRUPTED: "interrupted",
    BROKEN_PIPE: "whoever read the output has closed it",
}
"""Every exit status of the command line with its meaning; those of errors are theirs (`tango.errors`)."""


def run_reporting_failures(command: click.Command, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and end the process with its exit status, by `os._exit`.

    An ordinary exit runs the destructors of native libraries while threads of theirs (Arrow's readers) still run, which now and then
    aborts the process (apache/arrow#34314). Commands close what they opened before they return, so nothing is lost by the short way.
    """
    status = exit_status(command, args)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def exit_status(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command line and return the status to exit with, after printing any error on stderr.

    An int that a command returns becomes the status. Never raises.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where a locale or PYTHONIOENCODING has no room for a letter, it stands there as its number.
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in arguments or os.environ.get("TANGO_DEBUG", "") not in ("", "0")
    try:
        result = command.main(arguments, prog_name="tango", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # the outermost edge: nothing above it could report an exception better
        if debug and not isinstance(error, (SystemExit, KeyboardInterrupt)):
            traceback.print_exc(file=sys.stderr)
        return _status_of(error, arguments, debug=debug)
    return result if isinstance(result, int) else 0


def _status_of(error: BaseException, arguments: Sequence[str], *, debug: bool) -> int:
    match error:
        case SystemExit() | BrokenPipeError() if _reader_left():  # click turns a broken pipe into SystemExit
            _silence_stdout()
            return BROKEN_PIPE
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED if error.code else 0
        case click.FileError():  # a ClickException of status 1, but a file that cannot be opened is a matter of usage
            error.show()
            return USAGE
        case click.ClickException():
            with_suggestion(error).show()
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
        case UnicodeEncodeError() if no_text := [one for one in arguments if not _is_text(one)]:
            # Python keeps the bytes of arguments that it cannot decode, for paths; a database takes none of them.
            _tell(f"Error: {no_text[0]!r} is no text in UTF-8")
            return USAGE
        case OSError() if error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE):
            # No defect, although nobody has named the file's part in it: the machine said no.
            place = f"{error.filename}: " if error.filename is not None else ""
            _tell(f"Error: {place}{error.strerror or error}")
            return FAILED
        case _:
            hint = "" if debug else "\nThis is a defect in Tango; `tango --debug ...` shows where."
            _tell(f"Error: unexpected {type(error).__name__}: {error}{hint}")
            return FAILED


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _message(error: TangoError) -> str:
    first, *rest = (str(error) or type(error).__name__).splitlines()
    return "\n".join([f"Error: {first}", *(f"  {line}" for line in rest)])


def _tell(message: str) -> None:
    click.echo("\n".join(printable(line) for line in message.split("\n")), err=True)


def _reader_left() -> bool:
    """Whether stdout's reader has closed its end; a BrokenPipeError may also come from a socket, and that is a defect to report."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _silence_stdout() -> None:
    """Point stdout at /dev/null, so that the last flush, before the process ends, does not fail on the closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
