"""Progress of long commands, on stderr: a bar on a terminal, a plain line every few seconds elsewhere.

`progress` shows one quantity that grows towards a total; `RunProgress` shows a run in progress, from the dicts that
`PostgresRunRecords.progress` returns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tango.analysis.compared_metrics import NOTHING
from tango.cli.output import printable, say, share, stderr_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

QUIET_S = 2.0
"""Without a terminal, work that ends within so many seconds prints no line."""
LINE_EVERY_S = 5.0
"""Without a terminal, seconds between two lines of progress, so that a log of an hour has at most some 700 of them."""
CLASSES = ("lc", "be")
COUNTS: dict[str, tuple[str, ...]] = {
    "to come": ("accepted",),
    "waiting": ("released", "pending", "dispatched", "placed"),
    "running": ("running",),
    "succeeded": ("succeeded",),
    "failed": ("failed", "shed", "cancelled"),
}
"""Columns of the live display, each with the request states whose counts it sums."""


class Advance(Protocol):
    """Reports progress; called by the code that does the work."""

    def __call__(self, amount: float = 1.0, *, total: float | None = None, note: str | None = None) -> None:
        """Add `amount` to what is done, in the unit of the display; `total` sets or corrects the whole, `note` what is being done now,
        empty for nothing to be said."""
        ...


@contextmanager
def progress(
    description: str,
    *,
    total: float | None = None,
    unit: str = "",
    console: Console | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Show how far a piece of work is: `with progress("Reading rows", total=n) as advance: ... advance(100)`.

    Without `total` the display counts up and shows no share. `unit` is a noun such as "files", or begins with "%" where `total` is 100.
    """
    console = console or stderr_console()
    shown = _bar(description, total, unit, console) if console.is_terminal else _lines(description, total, unit, console, clock_s)
    with shown as advance:
        yield advance


@contextmanager
def slow_start(message: str, *, after_s: float = 3.0) -> Iterator[Callable[[], None]]:
    """Print a message unless the work shows a first sign of progress within `after_s` seconds.

    `with slow_start("Compiling ...") as moving: ... moving()`: the block calls `moving` at its first progress, as often as it likes.
    """
    timer = threading.Timer(after_s, say, (message,))
    timer.daemon = True  # a command that fails at once must not wait for a message that is of no use any more
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


@contextmanager
def _bar(description: str, total: float | None, unit: str, console: Console) -> Iterator[Advance]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    count = TextColumn("{task.completed:,.0f}" + (f" {unit}" if unit else ""), markup=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        count,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Transient: what stays on the terminal is the command's result, and not how it came about.
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(printable(description), total=total)

        def advance(amount: float = 1.0, *, total: float | None = None, note: str | None = None) -> None:
            if total is not None:
                bars.update(task, total=total)
            if note is not None:
                bars.update(task, description=printable(f"{description}: {note}" if note else description))
            bars.update(task, advance=amount)

        yield advance


@contextmanager
def _lines(description: str, total: float | None, unit: str, console: Console, clock_s: Callable[[], float]) -> Iterator[Advance]:
    began_s = clock_s()
    told_s, done, whole, doing = began_s, 0.0, total, ""

    def line() -> str:
        if unit.startswith("%"):
            share = f"{done:.0f} {unit}"
        else:
            of = f" of {whole:,.0f} ({done / whole:.0%})" if whole else ""
            share = f"{done:,.0f}{of}{' ' + unit if unit else ''}"
        return f"{description}: {share}, {clock_s() - began_s:.0f} s{', ' + doing if doing else ''}"

    def advance(amount: float = 1.0, *, total: float | None = None, note: str | None = None) -> None:
        nonlocal told_s, done, whole, doing
        done += amount
        doing = doing if note is None else note
        whole = total if total is not None else whole
        if clock_s() - told_s >= LINE_EVERY_S:
            told_s = clock_s()
            console.print(printable(line()))

    yield advance
    # Not in a `finally`: work that was broken off is not done.
    if clock_s() - began_s >= QUIET_S:
        console.print(printable(line() + ", done"))


@contextmanager
def spinner(description: str, *, console: Console | None = None) -> Iterator[None]:
    """Show that work of unknown length is going on; without a terminal print one line at its end if it took over `QUIET_S`."""
    console = console or stderr_console()
    if console.is_terminal:
        with console.status(printable(description)):
            yield
        return
    began_s = time.monotonic()
    yield
    if time.monotonic() - began_s >= QUIET_S:
        console.print(printable(f"{description}: done in {time.monotonic() - began_s:.0f} s"))


def seconds_text(value_s: float | None) -> str:
    """A duration in seconds as `0:42` or `1:02:03`; a dash for None."""
    if value_s is None:
        return NOTHING
    minutes, seconds = divmod(max(0, round(value_s)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else share(value)


class RunProgress:
    """Live display of a run. Use it as a context manager and call `update` with each result of `PostgresRunRecords.progress`.

    Keys of a state: `counts` ({(class, state): requests}); and, each None where unknown, `status`, `elapsed_s` (wall seconds since the
    run's zero), `span_wall_s` (wall seconds from zero to the last arrival), `lc_met` (LC requests answered within target),
    `cpu_utilization` (0 to 1).
    """

    def __init__(
        self,
        run: int | str,
        *,
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        line_every_s: float = LINE_EVERY_S,
    ) -> None:
        self._title = printable(run) if isinstance(run, str) else f"run {run}"
        self._console = console or stderr_console()
        self._clock_s = clock_s
        self._line_every_s = line_every_s
        self._told_s: float | None = None
        self._last: Mapping[str, Any] | None = None
        self._live: Live | None = None

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()
        # The live display is gone from the terminal by now; one line of it stays, and logs end with the newest figures.
        if self._last is not None:
            self._console.print(self.line(self._last))

    def update(self, state: Mapping[str, Any]) -> None:
        """Show the newest figures; without a terminal at most one line every `line_every_s`."""
        self._last = state
        if self._live is not None:
            self._live.update(self.panel(state))
            return
        now_s = self._clock_s()
        if self._told_s is None or now_s - self._told_s >= self._line_every_s:
            self._told_s = now_s
            self._console.print(self.line(state))

    def line(self, state: Mapping[str, Any]) -> str:
        """The state as one line of text, for logs and pipes."""
        parts = [f"{self._title}: {state.get('status') or 'running'} {seconds_text(state.get('elapsed_s'))}"]
        for name in CLASSES:
            counts = _counts(state, name)
            if sum(counts.values()):
                failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
                parts.append(f"{name.upper()} {counts['succeeded']:,}/{sum(counts.values()):,} done{failed}")
        parts.append(f"QoS {_share(_qos_so_far(state))}, CPU {_share(state.get('cpu_utilization'))}")
        parts.append(f"arrivals {_eta_text(state)}")
        return printable(" | ".join(parts))

    def panel(self, state: Mapping[str, Any]) -> RenderableType:
        """The state as a terminal shows it: a bar and counts for each class, and the run's figures so far."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        bar_width = max(8, min(24, self._console.width - 58))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        table.add_column("", width=bar_width)
        for count in COUNTS:
            table.add_column(count, justify="right", no_wrap=True)
        for name in CLASSES:
            counts = _counts(state, name)
            whole = sum(counts.values())
            if not whole:
                continue
            bar = ProgressBar(total=whole, completed=counts["succeeded"] + counts["failed"], width=bar_width)
            cells = [Text(f"{n:,}", style="red" if key == "failed" and n else "") for key, n in counts.items()]
            table.add_row(Text(name.upper(), style="bold"), bar, *cells)
        facts = Text.assemble(
            (self._title, "bold"),
            f"  {state.get('status') or 'running'}  {seconds_text(state.get('elapsed_s'))}, arrivals {_eta_text(state)}",
            f"   QoS {_share(_qos_so_far(state))}   CPU {_share(state.get('cpu_utilization'))}",
            no_wrap=True,
            overflow="ellipsis",
        )
        return Group(facts, table)


def _counts(state: Mapping[str, Any], name: str) -> dict[str, int]:
    found: Mapping[tuple[str, str], int] = state["counts"]
    return {column: sum(int(found.get((name, key), 0)) for key in states) for column, states in COUNTS.items()}


def _qos_so_far(state: Mapping[str, Any]) -> float | None:
    """Share within target of the LC requests that have ended so far; None before the first.

    It differs from the QoS rate of `run show`, which counts the requests that arrived in the run's window and is taken at the end.
    """
    counts = _counts(state, "lc")
    ended = counts["succeeded"] + counts["failed"]
    return (state.get("lc_met") or 0) / ended if ended else None


def _eta_text(state: Mapping[str, Any]) -> str:
    span_s, elapsed_s = state.get("span_wall_s"), state.get("elapsed_s")
    if span_s is None or elapsed_s is None:
        return "have not begun"
    return f"for {seconds_text(span_s - elapsed_s)} more" if elapsed_s < span_s else "are over"
