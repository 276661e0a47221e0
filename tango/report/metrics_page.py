"""Every metric of a scrape as the page `docs/prometheus.md`: `python -m tango.report.metrics_page > docs/prometheus.md`."""

from __future__ import annotations

import textwrap

from tango.telemetry.catalogue import CATALOGUE, LABELS, OTHER, Source
from tango.telemetry.tallies import MOST_SERIES

_HEAD = f"""# Metrics for Prometheus

Printed from `tango/telemetry/catalogue.py` by `python -m tango.report.metrics_page`; a test holds
it to the code. What `tango run show` and reports say of a run is on another page,
[metrics.md](metrics.md); how to scrape, and the alerts, are in
[operations/metrics.md](operations/metrics.md).

    curl "$TANGO_METRICS_URL"          # after eval "$(tango env)"; `tango up` and `status` print it

One scrape for each host, of at most five parts: the store, the processes of the host, its brokers,
its stack, and the scrape itself. A part that does not answer is told by `tango_up` and costs no
other part. No label has a run, a request, a process, a pod or a caller in it, so the size of a
scrape follows from the declared fleet, services and tenants alone; where a metric would have more
than {MOST_SERIES} series in a process, what comes beyond is counted under `{OTHER}`. Counters of
processes outlive them: one that is restarted goes on where it stopped. They begin at 0 when the
stack (or the pod) starts.

"""
_PARTS = {
    Source.STORE: ("The store", "Read from PostgreSQL at a scrape, by a dozen bounded queries."),
    Source.PROCESSES: ("Processes", "Counted by the processes of the host themselves, and added up."),
    Source.BROKER: ("Brokers", "Asked of each broker at a scrape."),
    Source.STACK: ("The stack", "Of a local stack, from its supervisor and the kernel."),
    Source.EXPORTER: ("The scrape", "Made where the figures are put together."),
}


def metrics_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for source, (title, said) in _PARTS.items():
        parts.append(f"## {title}\n\n{said}\n\n| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n")
        for metric in (m for m in CATALOGUE.values() if m.source is source):
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            parts.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.meaning} |\n")
        parts.append("\n")
    parts.append("## Labels\n\n| label | meaning |\n|---|---|\n")
    parts += [f"| `{label}` | {said} |\n" for label, said in LABELS.items()]
    parts.append("\n## Buckets\n\n")
    for metric in (m for m in CATALOGUE.values() if m.buckets):
        bounds = ", ".join(f"{bound:g}" for bound in metric.buckets)
        parts.append(textwrap.fill(f"- `{metric.name}`: {bounds}", 100, subsequent_indent="  ") + "\n")
    return "".join(parts)


if __name__ == "__main__":
    print(metrics_page(), end="")
