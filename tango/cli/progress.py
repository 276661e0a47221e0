"""Progress of what takes over two seconds, on stderr: bars on a terminal, an occasional plain line elsewhere.

`progress` is for one quantity that grows; `RunProgress` shows a run while it goes on, fed with dicts as the stores give them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tango.cli.output import NOTHING, printable, say, stderr_console

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

QUIET_S = 2.0
"""What is over sooner says nothing where there is no terminal."""
LINE_EVERY_S = 5.0
CLASSES = ("lc", "be")
COUNTS: dict[str, tuple[str, ...]] = {
    "to come": ("accepted",),
    "waiting": ("released", "pending", "dispatched", "placed"),
    "running": ("running",),
    "succeeded": ("succeeded",),
    "failed": ("failed", "shed", "cancelled"),
}
"""Columns of the live display and the states each adds up."""


class Advance(Protocol):
    """Handed to whoever does the work."""

    def __call__(self, amount: float = 1.0, *, total: float | None = None) -> None:
        """Add to what is done; `total` sets or corrects how much there is."""
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
    """Show how far something is: `with progress("Reading rows", total=n) as advance: ... advance(100)`."""
    console = console or stderr_console()
    shown = _bar(description, total, unit, console) if console.is_terminal else _lines(description, total, unit, console, clock_s)
    with shown as advance:
        yield advance


@contextmanager
def slow_start(message: str, *, after_s: float = 3.0) -> Iterator[Callable[[], None]]:
    """Say a message when what follows has not begun to move after a while: `with slow_start("Compiling ...") as moving: ... moving()`."""
    timer = threading.Timer(after_s, say, (message,))
    timer.daemon = True
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
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(printable(description), total=total)

        def advance(amount: float = 1.0, *, total: float | None = None) -> None:
            if total is not None:
                bars.update(task, total=total)
            bars.update(task, advance=amount)

        yield advance


@contextmanager
def _lines(description: str, total: float | None, unit: str, console: Console, clock_s: Callable[[], float]) -> Iterator[Advance]:
    began_s = clock_s()
    told_s, done, whole = began_s, 0.0, total

    def line() -> str:
        of = f" of {whole:,.0f} ({done / whole:.0%})" if whole else ""
        return f"{description}: {done:,.0f}{of}{' ' + unit if unit else ''}, {clock_s() - began_s:.0f} s"

    def advance(amount: float = 1.0, *, total: float | None = None) -> None:
        nonlocal told_s, done, whole
        done += amount
        whole = total if total is not None else whole
        if clock_s() - told_s >= LINE_EVERY_S:
            told_s = clock_s()
            console.print(printable(line()))

    yield advance
    if clock_s() - began_s >= QUIET_S:
        console.print(printable(line() + ", done"))


@contextmanager
def spinner(description: str, *, console: Console | None = None) -> Iterator[None]:
    """Show that something of unknown length is under way; without a terminal only what took over two seconds is told."""
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
    """`0:42`, `1:02:03`, or a dash."""
    if value_s is None:
        return NOTHING
    minutes, seconds = divmod(max(0, round(value_s)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


class RunProgress:
    """A run as it goes on. Use as a context manager and call `update` with what the store's `progress` gives.

    Keys: `counts` ({(class, state): requests}); and, each None where unknown, `status`, `elapsed_s` (wall seconds since the run's
    zero), `span_wall_s` (to its last arrival), `lc_met` (LC requests within target), `cpu_utilization`.
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
        """One plain line."""
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
        """What a terminal shows: a bar per class, its counts, and the figures so far."""
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
    """Share within target among the LC requests that have ended; the run's figure is taken over its window, at its end."""
    counts = _counts(state, "lc")
    ended = counts["succeeded"] + counts["failed"]
    return (state.get("lc_met") or 0) / ended if ended else None


def _eta_text(state: Mapping[str, Any]) -> str:
    span_s, elapsed_s = state.get("span_wall_s"), state.get("elapsed_s")
    if span_s is None or elapsed_s is None:
        return "have not begun"
    return f"for {seconds_text(span_s - elapsed_s)} more" if elapsed_s < span_s else "are over"
