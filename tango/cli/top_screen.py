"""What `tango top` shows: the live view of a fleet as lines of a terminal of any size. Pure: values in, a Rich renderable out.

The overview gives each section the lines that it needs and cuts the longest ones; the other views have one listing each, which scrolls.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from tango.cli.output import ListColumn, fitting_table, printable
from tango.cli.progress import seconds_text
from tango.domain.live_view import LiveLately, LiveNodes, LiveNow, LiveRun

BAR_CELLS = 24
"""Width of a bar of CPU: a cell is 4 % of it."""
PARTS = ("█", "▒", "▚", "·")
"""Of LC, BE, pods of others and what is free: told apart without colour too."""
STYLES = ("blue", "yellow", "magenta", "bright_black")
LINE = "▁▂▃▄▅▆▇█"
VIEWS: Mapping[str, str] = {
    "o": "overview",
    "n": "nodes",
    "s": "services",
    "w": "waiting",
    "d": "decisions",
    "r": "runs",
    "p": "processes",
}
"""Key → what it shows."""
ALARM = "bold red"
LEAST_LINES = 3
"""Of a section of the overview: its heading and two rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """All that is shown at one moment."""

    now: LiveNow | None
    """None: nothing has been read yet."""
    lately: LiveLately | None
    processes: Sequence[Mapping[str, Any]]
    """As `tango status` has them; empty where no stack of this machine runs."""
    trouble: str = ""
    """Why the newest look failed; empty: it did not."""


def paint_parts(text: Text) -> None:
    """Colour the parts of a bar, in place."""
    for part, style in zip(PARTS, STYLES, strict=True):
        text.highlight_regex(part + "+", style)


def paint_alarm(text: Text) -> None:
    """Of a cell that says nothing where all is well."""
    if text.plain not in ("", "–", "0", "ready", "running", "yes"):
        text.stylize(ALARM)


def bar(whole: float, *parts: float, cells: int = BAR_CELLS) -> str:
    """Parts of a whole as a bar of so many cells; what is left is free. Parts beyond the whole are cut."""
    if whole <= 0:
        return ""
    ends, reached = [], 0.0
    for part in parts:
        reached += part
        ends.append(min(cells, round(cells * reached / whole)))
    text, at = "", 0
    for end, sign in zip(ends, PARTS, strict=False):
        text += sign * (end - at)
        at = end
    return text + PARTS[-1] * (cells - at)


def spark(values: Sequence[float | None], *, low: float = 0.0) -> str:
    """A line of shares from `low` to 1, one character each; a gap where there is none."""
    signs = []
    for value in values:
        if value is None:
            signs.append(" ")
            continue
        level = min(1.0, max(0.0, (value - low) / (1.0 - low)))
        signs.append(LINE[min(len(LINE) - 1, int(level * len(LINE)))])
    return "".join(signs)


def per_cent(value: float) -> str:
    """A share, in whole per cents but near 1, where the difference counts."""
    return f"{100 * value:.1f}%" if 0.9 < value < 1 else f"{100 * value:.0f}%"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def _cores(millicores: float) -> str:
    return f"{millicores / 1000:.1f}"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f}"


def _clock(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%H:%M:%S")


CLUSTERS = (
    ListColumn("cluster", priority=10),
    ListColumn("nodes", priority=9, justify="right"),
    ListColumn("state", priority=8, paint=paint_alarm),
    ListColumn("cpu", title="CPU", priority=9, paint=paint_parts),
    ListColumn("lc", title="LC", show=_cores, priority=8, justify="right"),
    ListColumn("be", title="BE", show=_cores, priority=8, justify="right"),
    ListColumn("cores", title="of cores", show=_cores, priority=7, justify="right"),
    ListColumn("used", show=_cores, priority=6, justify="right"),
    ListColumn("memory", show=per_cent, priority=5, justify="right"),
    ListColumn("pods", priority=4, justify="right"),
    ListColumn("under_way", title="LC now", priority=7, justify="right"),
    ListColumn("late", priority=6, justify="right", paint=paint_alarm),
)
NODES = (
    ListColumn("cluster", priority=9),
    ListColumn("node", priority=10),
    ListColumn("state", priority=9, paint=paint_alarm),
    ListColumn("cpu", title="CPU", priority=9, paint=paint_parts),
    ListColumn("lc", title="LC", show=_cores, priority=8, justify="right"),
    ListColumn("be", title="BE", show=_cores, priority=8, justify="right"),
    ListColumn("cores", title="of cores", show=_cores, priority=7, justify="right"),
    ListColumn("used", show=_cores, priority=6, justify="right"),
    ListColumn("memory", title="MiB held", show=per_cent, priority=6, justify="right"),
    ListColumn("pods", title="pods LC+BE", priority=4, justify="right"),
    ListColumn("pressure", title="LC lacks", show=per_cent, priority=5, justify="right"),
)
SERVICES = (
    ListColumn("service", priority=10),
    ListColumn("class", priority=5),
    ListColumn("target_ms", title="target", show=_milliseconds, priority=6, justify="right"),
    ListColumn("rate", title="in time", show=per_cent, priority=9, justify="right"),
    ListColumn("line", title="last minutes", priority=7),
    ListColumn("ended", show=lambda n: f"{n:,}", priority=7, justify="right"),
    ListColumn("missed", show=lambda n: f"{n:,}", priority=8, justify="right"),
    ListColumn("lost", show=lambda n: f"{n:,}", priority=4, justify="right"),
    ListColumn("p50", show=_milliseconds, priority=3, justify="right"),
    ListColumn("p95", show=_milliseconds, priority=6, justify="right"),
)
QUEUE = (
    ListColumn("waiting", title="waiting for", priority=10),
    ListColumn("cluster", priority=8),
    ListColumn("state", priority=5),
    ListColumn("requests", show=lambda n: f"{n:,}", priority=9, justify="right"),
    ListColumn("oldest_s", title="oldest", show=seconds_text, priority=9, justify="right"),
)
QUEUE_BY_SERVICE = tuple(column for column in QUEUE if column.key not in ("cluster", "state"))
TENANTS = (
    ListColumn("tenant", priority=10),
    ListColumn("weight", show=lambda weight: f"{weight:g}", priority=7, justify="right"),
    ListColumn("share", title="holds", show=per_cent, priority=9, justify="right"),
    ListColumn("weighted_share", title="over weight", show=per_cent, priority=6, justify="right"),
    ListColumn("below_s", title="waits below its share", show=seconds_text, priority=8, justify="right"),
    ListColumn("withheld", show=lambda is_held: "gets nothing now" if is_held else "", priority=5),
)
RUNS = (
    ListColumn("run", priority=10, justify="right"),
    ListColumn("name", priority=6),
    ListColumn("system", priority=7),
    ListColumn("status", priority=8),
    ListColumn("progress", priority=8),
    ListColumn("elapsed", show=seconds_text, priority=6, justify="right"),
    ListColumn("waiting", show=lambda n: f"{n:,}", priority=5, justify="right"),
    ListColumn("in_flight", title="runs", show=lambda n: f"{n:,}", priority=5, justify="right"),
    ListColumn("rate", title="QoS so far", show=per_cent, priority=9, justify="right"),
    ListColumn("lost", show=lambda n: f"{n:,}", priority=4, justify="right"),
)
DECIDED = (
    ListColumn("decides", priority=10),
    ListColumn("policy", priority=9),
    ListColumn("checkpoint", priority=5),
    ListColumn("cycles", show=lambda n: f"{n:,}", priority=7, justify="right"),
    ListColumn("placed", show=lambda n: f"{n:,}", priority=8, justify="right"),
    ListColumn("unplaced", show=lambda n: f"{n:,}", priority=8, justify="right"),
    ListColumn("shed", show=lambda n: f"{n:,}", priority=6, justify="right"),
    ListColumn("p50", show=_milliseconds, priority=7, justify="right"),
    ListColumn("p99", show=_milliseconds, priority=6, justify="right"),
)
DECISIONS = (
    ListColumn("at", show=_clock, priority=9),
    ListColumn("decides", priority=10),
    ListColumn("cluster", priority=8),
    ListColumn("policy", priority=8),
    ListColumn("considered", justify="right", priority=7),
    ListColumn("placed", justify="right", priority=9),
    ListColumn("unplaced", justify="right", priority=6),
    ListColumn("shed", justify="right", priority=5),
    ListColumn("ms", show=lambda ms: f"{ms:.1f}", justify="right", priority=8),
    ListColumn("note", priority=7),
)
PROCESSES = (
    ListColumn("name", priority=10),
    ListColumn("state", priority=9, paint=paint_alarm),
    ListColumn("role", priority=6),
    ListColumn("pid", justify="right", priority=7),
    ListColumn("restarts", justify="right", priority=8),
)


def cluster_rows(now: LiveNow) -> list[dict[str, Any]]:
    """Rows of `CLUSTERS`."""
    return [
        {
            "cluster": c.name,
            "nodes": f"{c.ready}/{c.nodes}",
            "state": "away" if c.is_away else "ready" if c.ready == c.nodes and not c.closed else "partly",
            "cpu": bar(c.cpu_millicores, c.cpu_lc_millicores, c.cpu_be_millicores, c.cpu_other_millicores),
            "lc": c.cpu_lc_millicores,
            "be": c.cpu_be_millicores,
            "cores": c.cpu_millicores,
            "used": c.cpu_used_millicores,
            "memory": (c.memory_lc_mib + c.memory_be_mib + c.memory_other_mib) / c.memory_mib if c.memory_mib else None,
            "pods": f"{c.pods_lc}+{c.pods_be}",
            "under_way": c.lc_under_way,
            "late": c.lc_late,
        }
        for c in now.clusters
    ]


def node_rows(nodes: LiveNodes) -> list[dict[str, Any]]:
    """Rows of `NODES`: what is not ready first, then the fullest."""
    found = []
    for row, name in enumerate(nodes.name):
        cpu, memory = int(nodes.cpu_millicores[row]), int(nodes.memory_mib[row])
        held = [int(column[row]) for column in (nodes.cpu_lc_millicores, nodes.cpu_be_millicores, nodes.cpu_other_millicores)]
        in_memory = sum(int(column[row]) for column in (nodes.memory_lc_mib, nodes.memory_be_mib, nodes.memory_other_mib))
        ready, takes = bool(nodes.ready[row]), bool(nodes.schedulable[row])
        found.append(
            {
                "cluster": nodes.cluster[row],
                "node": name,
                "state": ("ready" if takes else "closed") if ready else "not ready",
                "cpu": bar(cpu, *held),
                "lc": held[0],
                "be": held[1],
                "cores": cpu,
                "used": float(nodes.cpu_used_millicores[row]),
                "memory": in_memory / memory if memory else None,
                "pods": f"{nodes.pods_lc[row]}+{nodes.pods_be[row]}",
                "pressure": float(nodes.lc_cpu_pressure[row]),
                "full": sum(held) / cpu if cpu else 0.0,
            }
        )
    return sorted(found, key=lambda row: (row["state"] != "not ready", row["state"] != "closed", -row["full"]))


def service_rows(lately: LiveLately) -> list[dict[str, Any]]:
    """Rows of `SERVICES`: LC first, by name."""
    return [
        {
            "service": s.service,
            "class": s.service_class.upper(),
            "target_ms": s.target_ms,
            "rate": s.rate,
            # From 80 %: what LC misses is in the last per cents.
            "line": spark(
                [good / n if n else None for good, n in zip(s.in_time_by_bucket, s.ended_by_bucket, strict=True)], low=0.8
            ),
            "ended": s.ended,
            "missed": s.missed,
            "lost": s.lost,
            "p50": s.latency_p50_ms,
            "p95": s.latency_p95_ms,
        }
        for s in lately.services
    ]


def run_rows(now: LiveNow) -> list[dict[str, Any]]:
    """Rows of `RUNS`, the newest first."""
    return [
        {
            "run": run.run_id,
            "name": run.name,
            "system": run.system,
            "status": run.status,
            "progress": progress_of(run),
            "elapsed": run.elapsed_s,
            "waiting": run.waiting,
            "in_flight": run.in_flight,
            "rate": run.lc_in_time / run.lc_ended if run.lc_ended else None,
            "lost": run.lost,
        }
        for run in now.runs
    ]


def progress_of(run: LiveRun) -> str:
    """How far its requests have ended; of a live run, which has no end that is known, their number."""
    ended = run.succeeded + run.lost
    if not run.span_s or not run.accepted:
        return f"{ended:,} ended"
    done = ended / run.accepted
    cells = round(10 * done)
    return "█" * cells + "·" * (10 - cells) + f" {math.floor(100 * done)}%"


def queue_rows(now: LiveNow) -> list[dict[str, Any]]:
    """Rows of `QUEUE`, the oldest first."""
    return [asdict(q) | {"waiting": f"{q.service_class.upper()} {q.service}"} for q in now.queue]


def queue_by_service(now: LiveNow) -> list[dict[str, Any]]:
    """The same, one row for each service."""
    found: dict[str, dict[str, Any]] = {}
    for row in queue_rows(now):  # the first of a service is its oldest
        of = found.setdefault(row["waiting"], {"waiting": row["waiting"], "requests": 0, "oldest_s": row["oldest_s"]})
        of["requests"] += row["requests"]
    return list(found.values())


def tenant_rows(now: LiveNow) -> list[dict[str, Any]]:
    """Rows of `TENANTS`."""
    return [asdict(tenant) for tenant in now.tenants]


def decided_rows(lately: LiveLately) -> list[dict[str, Any]]:
    """Rows of `DECIDED`."""
    return [
        asdict(d)
        | {"decides": d.kind.upper(), "checkpoint": d.checkpoint[:12] or None, "p50": d.decide_p50_ms, "p99": d.decide_p99_ms}
        for d in lately.decisions
    ]


def decision_rows(now: LiveNow) -> list[dict[str, Any]]:
    """Rows of `DECISIONS`, the newest first."""
    return [
        {
            "at": d.at_s,
            "decides": d.kind.upper(),
            "cluster": d.cluster or None,
            "policy": d.policy,
            "considered": d.considered,
            "placed": d.placed,
            "unplaced": d.unplaced,
            "shed": d.shed,
            "ms": d.snapshot_ms + d.decide_ms + d.apply_ms,
            "note": d.note,
        }
        for d in now.decisions
    ]


def head(screen: Screen) -> list[Text]:
    """Two lines with what matters most, and one for each thing that is wrong."""
    now, lately = screen.now, screen.lately
    if now is None:
        return [Text("tango", style="bold"), *_alarms(screen)]
    nodes, ready = sum(c.nodes for c in now.clusters), sum(c.ready for c in now.clusters)
    first = Text.assemble(
        ("tango", "bold"),
        f"  {printable(now.fleet) or 'no fleet'}  {len(now.clusters)} clusters, {ready} of {nodes} nodes ready  ",
        (_clock(now.at_s) + " UTC", "bright_black"),
    )
    rate = lately.lc_rate if lately is not None else None
    waiting, oldest = sum(r.waiting for r in now.runs), max((q.oldest_s for q in now.queue), default=None)
    second = Text.assemble(
        "QoS ",
        (per_cent(rate) if rate is not None else "–", "bold"),
        f" in {lately.window_s / 60:.0f} min  " if lately is not None and lately.window_s >= 60 else "  ",
        f"LC now {sum(c.lc_under_way for c in now.clusters):,}  BE pods {sum(c.pods_be for c in now.clusters):,}  ",
        f"waiting {waiting:,}",
        f", oldest {seconds_text(oldest)}" if oldest is not None else "",
    )
    return [first, second, *_alarms(screen)]


def _alarms(screen: Screen) -> list[Text]:
    found = []
    if screen.trouble:
        found.append(f"No new figures: {screen.trouble}")
    if down := [row for row in screen.processes if row["state"] != "running"]:
        names = ", ".join(f"{row['name']} ({row['state']})" for row in down)
        found.append(f"{len(down)} of {len(screen.processes)} processes do not run: {names}")
    if screen.now is not None:
        if away := [c.name for c in screen.now.clusters if c.is_away]:
            found.append(f"Away: {', '.join(away)}")
        for paused in screen.now.paused[:2]:
            what = "/".join(filter(None, (paused.cluster, paused.service, paused.node)))
            found.append(f"{what} refuses ({paused.kind}): {paused.words}")
    return [Text(printable(line), style=ALARM, no_wrap=True, overflow="ellipsis") for line in found]


def render(screen: Screen, *, view: str, offset: int, width: int, height: int) -> tuple[RenderableType, int]:
    """The view as at most `height` lines, and the row at which it begins: `offset`, or the last one from which a page is full."""
    lines = head(screen)
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    foot = _foot(view)
    left = max(0, height - len(lines) - 1)
    parts: list[RenderableType]
    if view == "overview":
        parts, offset = _overview(screen, left, width), 0
    else:
        parts, offset = _listing(screen, view, offset, left, width)
    return Group(*lines[: height - 1], *parts, foot), offset


def _foot(view: str) -> Text:
    text = Text("q quit  ", no_wrap=True, overflow="ellipsis", style="bright_black")
    for key, name in VIEWS.items():
        text.append(f"{key} {name}  ", style="bold" if name == view else "")
    return text


def _overview(screen: Screen, lines: int, width: int) -> list[RenderableType]:
    now, lately = screen.now, screen.lately
    if now is None:
        return []
    legend = f"  {PARTS[0]} LC {PARTS[1]} BE {PARTS[2]} others {PARTS[3]} free"
    sections = [
        (CLUSTERS, cluster_rows(now)),
        (SERVICES, service_rows(lately) if lately is not None else []),
        (RUNS, run_rows(now)),
        (QUEUE_BY_SERVICE, queue_by_service(now)),
        (TENANTS, tenant_rows(now)),
        (DECIDED, decided_rows(lately) if lately is not None else []),
    ]
    there = [(columns, rows) for columns, rows in sections if rows]
    parts: list[RenderableType] = []
    for (columns, rows), given in zip(there, shared_lines([len(rows) + 2 for _, rows in there], lines), strict=True):
        if given < LEAST_LINES:
            continue
        parts += [Text(), *_table(rows, columns, given - 1, width)]
    if parts and lines > sum(len(rows) + 2 for _, rows in there):
        parts.append(Text(legend, style="bright_black"))
        paint_parts(parts[-1])  # type: ignore[arg-type]
    return parts


def shared_lines(wanted: Sequence[int], lines: int) -> list[int]:
    """How many lines each section gets: what it wants where there is room, else the longest ones are cut, and the last ones left out."""
    given = list(wanted)
    while sum(given) > lines:
        longest = max(given, default=0)
        if longest > LEAST_LINES:
            given[given.index(longest)] -= 1
        elif any(given):
            given[max(k for k, n in enumerate(given) if n)] = 0
        else:
            break
    return given


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[ListColumn], lines: int, width: int) -> list[RenderableType]:
    """A heading and rows in so many lines; where there are more rows, the last line tells how many."""
    fitting = lines - 1
    if fitting < 1:
        return []
    shown = rows if len(rows) <= fitting else rows[: fitting - 1]
    # Columns are chosen for all rows, so that they stay where they are while one scrolls.
    table = fitting_table(shown, columns, width=width)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    parts: list[RenderableType] = [table] if shown else []
    if len(shown) < len(rows):
        parts.append(Text(f"… {len(rows) - len(shown):,} more", style="bright_black"))
    return parts


def _listing(screen: Screen, view: str, offset: int, lines: int, width: int) -> tuple[list[RenderableType], int]:
    now, lately = screen.now, screen.lately
    columns: Sequence[ListColumn] = PROCESSES
    rows: Sequence[Mapping[str, Any]] = screen.processes
    if view != "processes":
        if now is None or lately is None:
            return [], 0
        columns, rows = {
            "nodes": (NODES, node_rows(now.nodes)),
            "services": (SERVICES, service_rows(lately)),
            "waiting": (QUEUE, queue_rows(now)),
            "decisions": (DECISIONS, decision_rows(now)),
            "runs": (RUNS, run_rows(now)),
        }[view]
    if not rows:
        return [Text(), Text("Nothing to show.", style="bright_black")], 0
    offset = max(0, min(offset, len(rows) - max(1, lines - 3)))
    return [Text(), *_table(rows[offset:], columns, lines - 1, width)], offset
