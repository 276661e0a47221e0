"""What a process of Tango keeps of the environment that it was started in.

A shell has variables of other applications in it, and libraries read many that nobody meant for Tango: `CELERY_BROKER_URL` is somebody's
broker, `PGTZ` moves times, `PGHOSTADDR` another server. So each process takes out what would change what it does, before it begins; what it
starts then has none of it either. `docs/operations/environment.md` has every decision.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping

OF_CELERY = (
    # Celery's own names, and those that its command line makes of every option.
    r"CELERY\w*",
    r"KOMBU_\w+",
    r"C_(BENCH\w*|FAKEFORK|FORCE_ROOT|IMPDEBUG|REMDEBUG|STRICT_APP|WARN_APP|WNOCONF)",
    r"BROKER_URL|RESULT_BACKEND|LOADER|CONFIG_MODULE",
    # Where Django is named, Celery imports it.
    r"DJANGO_SETTINGS_MODULE",
    r"_?MP_\w+|FORKED_BY_MULTIPROCESSING|EVENTLET_NOBLOCK|AUTOSCALE_KEEPALIVE|TIMER_DEBUG|USE_FAST_LOCALS",
    r"DISABLE_TRACEBACKS|PICKLE_PROTOCOL|NOSETPS",
)
OF_SESSIONS = (r"PG(OPTIONS|TZ|DATESTYLE|CLIENTENCODING|GEQO|APPNAME|CONNECT_TIMEOUT|SERVICE)",)
"""What libpq makes of every session, whatever its URL says. Its other variables fill what a URL of somebody's own leaves out; those of the
stack's server leave nothing out (`tango.store.addresses.OF_OUR_SERVER`)."""
OF_INTERPRETERS = (
    r"PYTHON(ASYNCIODEBUG|BREAKPOINT|COERCECLOCALE|DEBUG|DEVMODE|DUMPREFS\w*|EXECUTABLE|HASHSEED|INSPECT|INTMAXSTRDIGITS|IOENCODING)",
    r"PYTHON(MALLOC\w*|OPTIMIZE|PERF\w*|PLATLIBDIR|PROFILEIMPORTTIME|SAFEPATH|STARTUP|TRACEMALLOC|UTF8|VERBOSE|WARNINGS)",
    r"PYTHON_(COLORS|BASIC_REPL|HISTORY|PERF_JIT_SUPPORT|PRESITE|JIT)",
)
"""What the interpreter of a command has read and those that it starts must not: theirs decide and serve."""
OF_FLOWER = (r"FLOWER_\w+",)
"""A Flower that is started by hand is set by them; that of a stack has its login and port from the stack."""


def leave_out_others(environment: MutableMapping[str, str] | None = None, *, starts_others: bool = False) -> list[str]:
    """Take out of an environment (None: this process's) what Tango's processes must not have; gives the names.

    `starts_others`: of a command, which may start a stack, also what would reach only the processes that it starts.
    """
    of = os.environ if environment is None else environment
    patterns = (*OF_CELERY, *OF_SESSIONS, *((*OF_INTERPRETERS, *OF_FLOWER) if starts_others else ()))
    # `del` reaches C libraries too, which look for themselves.
    taken = sorted(name for name in of if any(re.fullmatch(pattern, name) for pattern in patterns))
    for name in taken:
        del of[name]
    return taken


def open_closed_streams() -> None:
    """Give standard input, output and error that were closed (`<&-`, `>&-`) nothing to read, and nowhere to write.

    Else the next file that is opened has their number, and what is printed ends up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:  # something else has taken the number meanwhile
                os.dup2(opened, number)
                os.close(opened)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  (as long as the process lives)


def keep_own_rights() -> None:
    """Let the owner read and write what he makes: a umask that takes that away would lock a stack out of its files."""
    os.umask(os.umask(0o077) & 0o077)
