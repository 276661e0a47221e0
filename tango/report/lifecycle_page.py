"""The lifecycle table as the page `docs/lifecycle.md`: `python -m tango.report.lifecycle_page > docs/lifecycle.md`."""

from __future__ import annotations

from collections.abc import Iterable

from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, TRANSITIONS, WAITING, Transition

_HEAD = """# The life of a request

Printed from `tango/domain/lifecycle.py` by `python -m tango.report.lifecycle_page`; tests hold this
page, the stores and the engine to it. Each row is an event: the states in which it may find a
request, the state that follows, who may cause it, what must hold besides, and what it writes. Rows
with an outcome end an epoch and write its one row of the table `attempt`.

    LC   accepted → released → dispatched → running → ended
                     ▲    └─ start ┼─────────▲  │
                     └─────────────┴────────────┘  requeue, return
    BE   accepted → released → pending → placed → running → ended
                                ▲          │        │
                                └──────────┴────────┘  requeue, return

Ended is succeeded, failed, cancelled or, of LC, shed. `start` is a dispatch that the worker carries
out itself. `requeue`: the lease is over, the call has failed or the pod is lost, and the attempt
counts. `return`: the cluster refused it or its pod was taken away, and the attempt costs nothing.

"""
_ROWS = ("event", "class", "from", "to", "who", "guards", "writes", "outcome", "reason")


def lifecycle_page() -> str:
    """The whole page."""
    sets = {
        "live": LIVE,
        "waiting (due, in nobody's hands)": WAITING,
        "in flight (under an epoch and a lease: holds what it asks for on a node)": IN_FLIGHT,
        "terminal": TERMINAL,
    }
    lines = [_row(_ROWS), _row("---" for _ in _ROWS), *(_row(_cells(t)) for t in TRANSITIONS)]
    named = [_row(("set", "states")), _row(("---", "---")), *(_row((name, _joined(states))) for name, states in sets.items())]
    return f"{_HEAD}{_text(lines)}\n## Sets of states\n\n{_text(named)}"


def _cells(t: Transition) -> tuple[str, ...]:
    return (
        f"`{t.event}`",
        "" if t.service_class is None else t.service_class.name,
        _joined(t.before) or "(none)",
        t.after or "stays",
        _joined(t.actors),
        _joined(t.guards),
        _joined(t.writes),
        t.outcome,
        t.reason or "",
    )


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(lifecycle_page(), end="")
