"""The figures of a run as tables for a terminal of 80 columns. All functions are pure but for `print_run`, which `run show` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tango.analysis.compared_metrics import NOTHING
from tango.analysis.metrics import PRESSURE, Figure, RunMetrics, ServiceFigures
from tango.domain.observations import NODE_PRESSURES

WIDTH = 80
"""Columns of a terminal that every table fits into."""


def percent(value: Any) -> str:
    """A share as text: `98.7 %`, or a dash for None."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def milliseconds(value: Any) -> str:
    """Milliseconds as text: `0.42 ms`, `85.0 ms`, `1.25 s`, or a dash for None."""
    if value is None:
        return NOTHING
    if value >= 1000:
        return f"{value / 1000:,.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def number(value: Any) -> str:
    """A number as text: `1,234`, `3.14`, or a dash for None."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def text(value: Any) -> str:
    """A name as text, with each character that cannot be printed replaced by U+FFFD."""
    # Names come from other people's traces and clusters: an escape sequence in one must not reach the terminal.
    return NOTHING if value in (None, "") else "".join(c if c.isprintable() else "�" for c in str(value))


def together(show: Callable[[Any], str], *values: Any) -> str:
    """Several figures as one text; a unit that all have is given once: `85.0 / 320 / 410 ms`."""
    shown = [show(value) for value in values]
    units = {text.rpartition(" ")[2] for text in shown}
    if len(units) == 1 and all(" " in text for text in shown):
        return " / ".join(text.rpartition(" ")[0] for text in shown) + f" {units.pop()}"
    return " / ".join(shown)


def summary_rows(metrics: Mapping[str, Figure], details: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """Rows (name, figure, remark) of the summary that `run show`, the demo and the report print."""
    m = metrics
    others = [f"{number(m[state])} {state}" for state in ("failed", "shed", "cancelled", "live") if m[state]]
    latencies = (m["lc_latency_p50_ms"], m["lc_latency_p95_ms"], m["lc_latency_p99_ms"])
    return [
        ("requests", number(m["accepted"]), ", ".join([f"{number(m['succeeded'])} succeeded", *others])),
        ("QoS rate", percent(m["lc_qos_rate"]), f"of {number(m['lc_arrived'])} LC requests in the measured span"),
        ("LC latency", together(milliseconds, *latencies), "p50 / p95 / p99, from due time"),
        ("BE completed", number(m["be_completed"]), f"{number(details.get('be_completed_per_s'))} per second"),
        ("BE throughput", number(m["be_cpu_seconds_per_s"]), "useful CPU-seconds per second"),
        ("utilisation", together(percent, m["utilization_cpu"], m["utilization_memory"]), "CPU / memory, by useful work"),
        ("CPU busy", percent(details.get("busy_cpu")), "measured, wasted work included"),
        *(
            (name.removeprefix("held "), percent(share), "held by requests, of what nodes have")
            for name, share in details.items()
            if name.startswith("held ")
        ),
        *pressure_row(details),
        *host_rows(details),
        ("evictions", number(m["evictions"]), f"{number(m['waste_cpu_seconds'])} CPU-seconds thrown away"),
        ("resizes", number(m["resizes"]), f"{milliseconds(details.get('resize_ms_p50'))} to take effect (p50)"),
        ("decisions", number(m["decisions"]), f"{together(milliseconds, m['decision_ms_p50'], m['decision_ms_p99'])} (p50 / p99)"),
        ("fairness", NOTHING if m["fairness_jain"] is None else f"{m['fairness_jain']:.3f}", "Jain's index of clusters' QoS rates"),
    ]


def pressure_row(details: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """A row of the nodes' worst, where node agents have told any."""
    worst = [details.get(f"{name}_worst_node") for name in NODE_PRESSURES]
    if all(value is None for value in worst):
        return []
    return [("pressure", together(percent, *worst), "worst node: LC lacks CPU / quota / memory")]


def node_pressures(details: Mapping[str, Figure]) -> list[tuple[str, list[str]]]:
    """(node, each of `NODE_PRESSURES` as a percentage) of the nodes whose agents have told any, by name."""
    found: dict[str, dict[str, Figure]] = {}
    for key, value in details.items():
        if key.startswith(PRESSURE):
            name, _, node = key.removeprefix(PRESSURE).partition(" ")
            found.setdefault(node, {})[name] = value
    return [(node, [percent(of.get(name)) for name in NODE_PRESSURES]) for node, of in sorted(found.items())]


def is_saturated(host_full: Any, share: float) -> bool:
    """Whether a host had no CPU left for this share of a run's time or more (`HostSettings.saturated_share`)."""
    return isinstance(host_full, (int, float)) and host_full >= share


def host_banner(details: Mapping[str, Figure], share: float) -> str:
    """That a run's figures are not the system's, and why; empty where no host was so full, or nobody looked."""
    if not is_saturated(details.get("host_full"), share):
        return ""
    said = [
        f"Not the system's figures: the host {text(details['host'])} had no CPU left for {percent(details['host_full'])} of the time"
    ]
    stolen: Any = details.get("host_stolen")
    if (stolen or 0.0) > 0.01:
        said.append(f"{percent(stolen)} of it was taken by its hypervisor")
    late = together(milliseconds, details.get("release_ms_p95"), details.get("dispatch_ms_p95"))
    said.append(f"LC was released and dispatched {late} late (p95)")
    return "; ".join(said) + "."


def host_rows(details: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """Rows of the machine that a live run had: how full it was, and how late Tango itself was."""
    rows = []
    if details.get("host_used") is not None:
        remark = (
            f"{text(details['host'])}; {percent(details['host_full'])} of the time full, {percent(details['host_stolen'])} stolen"
        )
        rows.append(("host CPU", percent(details["host_used"]), remark))
    if details.get("release_ms_p95") is not None:
        late = together(milliseconds, details["release_ms_p95"], details.get("dispatch_ms_p95"))
        rows.append(("Tango's delay", late, "LC release / dispatch, p95"))
    return rows


def heading(metrics: Mapping[str, Figure]) -> Text:
    """The line above the tables: run, status, system, fleet, seed."""
    facts = (
        f"  {text(metrics['status'])}   system {text(metrics['system'])}   fleet {text(metrics['fleet'])}   seed {metrics['seed']}"
    )
    return Text.assemble((f"run {metrics['run']}", "bold"), facts, overflow="ellipsis", no_wrap=True)


def summary_table(metrics: Mapping[str, Figure], details: Mapping[str, Figure]) -> Table:
    """The summary as a table of names, figures and remarks."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    rows = summary_rows(metrics, details)
    table.add_column(no_wrap=True, min_width=max(len(row[0]) for row in rows))
    table.add_column(no_wrap=True, justify="right", style="bold", min_width=max(len(row[1]) for row in rows))
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for what, figure, remark in rows:
        table.add_row(Text(what), Text(figure), Text(remark))
    return table


def service_table(services: tuple[ServiceFigures, ...], *, wide: bool = False) -> Table:
    """A table with a row for each service; `wide` adds p50, p99.9 and counts by outcome."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text("service"), no_wrap=True, overflow="ellipsis", max_width=None if wide else 16)
    columns: list[tuple[str, Callable[[ServiceFigures], str], bool]] = [
        ("class", lambda s: s.service_class, False),
        ("arrived", lambda s: number(s.arrived), False),
        ("succeeded", lambda s: number(s.succeeded), True),
        ("failed", lambda s: number(s.failed), True),
        ("shed", lambda s: number(s.shed), True),
        ("unfinished", lambda s: number(s.unfinished), True),
        ("QoS", lambda s: percent(s.qos_rate), False),
        ("target", lambda s: milliseconds(s.target_ms), False),
        ("p50", lambda s: milliseconds(s.latency_p50_ms), True),
        ("p95", lambda s: milliseconds(s.latency_p95_ms), False),
        ("p99", lambda s: milliseconds(s.latency_p99_ms), False),
        ("p99.9", lambda s: milliseconds(s.latency_p999_ms), True),
        ("CPU-s/s", lambda s: number(s.cpu_seconds_per_s), False),
    ]
    shown = [(title, show) for title, show, only_wide in columns if wide or not only_wide]
    for title, _ in shown:
        table.add_column(Text(title), justify="left" if title == "class" else "right", no_wrap=True)
    for service in services:
        table.add_row(Text(text(service.service)), *(Text(show(service)) for _, show in shown))
    return table


def print_run(metrics: RunMetrics, *, banner: str = "", wide: bool = False, console: Console | None = None) -> None:
    """Print a run's figures to stdout, a banner above them: 80 columns, or with `wide` every column of the services."""
    console = console or Console(highlight=False, markup=False, emoji=False)
    # A fixed width in files and pipes, where Rich would otherwise take the width of whatever terminal started the command.
    console.width = 200 if wide else min(WIDTH, console.width) if console.is_terminal else WIDTH
    if banner:
        console.print(Text(banner, style="bold red"))
        console.print()
    for part in (heading(metrics), "", summary_table(metrics, metrics.details), "", service_table(metrics.services, wide=wide)):
        console.print(part)
