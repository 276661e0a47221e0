"""`tango top`: the fleet, its queues, QoS and decisions in the terminal, renewed every second."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli.bounds import Real
from tango.cli.output import plain, print_mapping, stdout_console
from tango.errors import StoreError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from tango.cli.top_screen import Screen
    from tango.domain.live_view import LiveLately, LiveNodes, LiveNow
    from tango.ports.live_view import LiveView

LATELY_EVERY_S = 5.0
"""Seconds between two looks at the last minutes, which change little in less and cost ten times a look at now."""
KEYS: Mapping[bytes, str] = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down", b" ": "page down"}
STEPS = {"up": -1, "down": 1, "page up": -20, "page down": 20, "k": -1, "j": 1}


@click.command()
@click.option("--once", is_flag=True, help="Print one picture, and end.")
@click.option("--every", "every_s", type=Real(0.2, 60.0), default=1.0, show_default=True, help="Seconds between two looks.")
@click.option(
    "-o", "--output", type=click.Choice(["screen", "json", "yaml"]), default="screen", show_default=True, help="How to print."
)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="State folder; TANGO_HOME where not given.")
def top(once: bool, every_s: float, output: str, home: Path | None) -> None:
    """Show the fleet live: clusters, nodes, QoS of the last minutes, queues, runs, decisions, processes. `q` ends it.

    \b
        tango top
        tango top --once -o json | jq '.services[] | {service, rate}'

    Keys: o overview, n nodes, s services, w waiting, d decisions, r runs, p processes; arrows, j, k and space scroll.
    """
    if output != "screen" and not once:
        raise UsageError(f"-o {output} prints one picture: say --once with it")
    from tango.bootstrap.stores import stores

    look = PictureReader(stores().live_view, _home(home))
    if once:
        print_picture(look.all_of_it(), output)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("tango top needs a terminal; from a script ask for one picture: tango top --once -o json")
    watch(look, every_s=every_s)


class PictureReader:
    """Reads what is shown. What fails is told in the picture, beside the last figures that there are."""

    def __init__(self, view: LiveView, home: Path) -> None:
        self._view, self._home = view, home
        self._now: LiveNow | None = None
        self._lately: LiveLately | None = None
        self._lately_at_s = -float("inf")

    def all_of_it(self) -> Screen:
        """One picture. Raises: StoreUnavailable, StoreError."""
        from tango.cli.top_screen import Screen

        return Screen(now=self._view.now(), lately=self._view.lately(), processes=self._processes())

    def again(self) -> Screen:
        """The next picture; the last minutes are read less often than the rest."""
        from tango.cli.top_screen import Screen

        trouble = ""
        try:
            self._now = self._view.now()
            if time.monotonic() - self._lately_at_s >= LATELY_EVERY_S:
                self._lately, self._lately_at_s = self._view.lately(), time.monotonic()
        except (StoreUnavailable, StoreError) as error:
            trouble = str(error)
        return Screen(now=self._now, lately=self._lately, processes=self._processes(), trouble=trouble)

    def _processes(self) -> list[dict[str, Any]]:
        from tango.stack.state import supervisor_pid
        from tango.stack.supervisor import read_status

        found: list[dict[str, Any]] = read_status(self._home)["processes"] if supervisor_pid(self._home) is not None else []
        return found


def print_picture(screen: Screen, output: str) -> None:
    """One picture: all of it for a script, else the overview with as many lines as it has."""
    if output != "screen":
        print_mapping(picture_document(screen), output)
        return
    from tango.cli.top_screen import render

    console = stdout_console()
    whole, _ = render(screen, view="overview", offset=0, width=console.width, height=10_000)
    console.print(whole, crop=console.is_terminal)


def picture_document(screen: Screen) -> dict[str, Any]:
    """The picture as JSON has it: rows of everything, nodes included, with rates beside their counts."""
    now, lately = screen.now, screen.lately
    assert now is not None
    assert lately is not None
    document: dict[str, Any] = asdict(now) | {"nodes": node_documents(now.nodes)}
    document["services"] = [asdict(s) | {"rate": s.rate} for s in lately.services]
    document["decided"] = [asdict(d) for d in lately.decisions]
    document |= {"window_s": lately.window_s, "bucket_s": lately.bucket_s, "lc_rate": lately.lc_rate}
    document["processes"] = list(screen.processes)
    found: dict[str, Any] = plain(document)
    return found


def node_documents(nodes: LiveNodes) -> list[dict[str, Any]]:
    """The columns of nodes as one JSON object for each node."""
    columns = {field.name: plain(getattr(nodes, field.name)) for field in fields(nodes)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def watch(look: PictureReader, *, every_s: float) -> None:
    """Show pictures until `q`, Ctrl-C or the end of standard input. The terminal is left as it was found."""
    from rich.live import Live

    from tango.cli.top_screen import VIEWS, render

    console = stdout_console()
    view, offset = "overview", 0
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        screen, next_s = look.again(), time.monotonic() + every_s
        while True:
            width, height = console.size
            shown, offset = render(screen, view=view, offset=offset, width=width, height=height)
            live.update(shown, refresh=True)
            key = keys(max(0.0, next_s - time.monotonic()))
            if key in ("q", "end"):
                return
            if key in VIEWS:
                view, offset = VIEWS[key], 0
            offset = max(0, offset + STEPS.get(key, 0))
            if time.monotonic() >= next_s:
                screen, next_s = look.again(), time.monotonic() + every_s


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for a key, so many seconds at most, and gives its name: empty for none, and when the terminal has changed
    its size; `end` when there is nothing to be read any more."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    resized = signal.signal(signal.SIGWINCH, lambda *_: None)
    woken_before = signal.set_wakeup_fd(waker)

    def key(within_s: float) -> str:
        ready, _, _ = select.select([descriptor, woken], [], [], within_s)
        if woken in ready:
            os.read(woken, 4096)
        if descriptor not in ready:
            return ""
        read = os.read(descriptor, 64)
        return KEYS.get(read) or read[:1].decode(errors="replace").lower() if read else "end"

    try:
        tty.setcbreak(descriptor)
        yield key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(woken_before)
        signal.signal(signal.SIGWINCH, resized)
        os.close(woken)
        os.close(waker)


def _home(named: Path | None) -> Path:
    from tango.stack.state import state_home

    return named.expanduser().absolute() if named else state_home(os.environ)
