"""What `tango help` prints: a short page for each thing that somebody has to know before the commands make sense.

A test holds the words to docs/glossary.md, the commands to those that there are, and the pages to those of docs/. What is a list of names
(settings, environment variables, exit codes) is made from the code that knows them.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LONGEST_DEFAULT = 40
"""Characters of a default that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One page of `tango help`."""

    name: str
    about: str
    """In a few words, for the list of topics."""
    words: Mapping[str, str]
    """Words of the glossary with their meanings."""
    text: str | Callable[[], str]
    """What else is to be said; commands stand in lines that begin with four blanks."""
    page: str
    """Page of docs/ that has the rest."""

    def rendered(self) -> str:
        """The whole page, lines of at most 80 characters."""
        lines = [f"{self.name}: {self.about}"] + ([""] if self.words else [])
        for word, meaning in self.words.items():
            lines += textwrap.wrap(f"{word}: {meaning}", 80, initial_indent="  ", subsequent_indent="      ")
        text = self.text if isinstance(self.text, str) else self.text()
        lines += ["", *text.strip("\n").splitlines(), "", f"More: docs/{self.page}"]
        return "\n".join(lines)


def _settings() -> str:
    """Every tunable as its variable, with its default and the first sentence of its meaning."""
    from tango.bootstrap.settings_page import texts_of
    from tango.settings import Settings

    lines = ["Each is TANGO_<GROUP>_<FIELD>, read when a process starts: export it before `tango up`.", ""]
    for group in dataclasses.fields(Settings):
        default = getattr(Settings(), group.name)
        if not dataclasses.is_dataclass(default):
            continue
        meanings = texts_of(type(default))
        for field in dataclasses.fields(default):
            said = meanings.get(field.name, "").split(". ")[0].rstrip(".")
            lines.append(f"TANGO_{group.name}_{field.name}".upper() + f"={_shown(getattr(default, field.name))}")
            lines += textwrap.wrap(said, 76, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _shown(default: object) -> str:
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return text if len(text) <= LONGEST_DEFAULT else text[: LONGEST_DEFAULT - 1] + "…"


def _environment() -> str:
    from tango.bootstrap.environment import ADDRESSES, NO_SETTINGS
    from tango.bootstrap.settings_page import texts_of
    from tango.settings import Settings

    meanings = texts_of(Settings)
    lines = ["Addresses, which a stack that runs here gives by itself (`tango env` prints them):", ""]
    for field, name in ADDRESSES.items():
        lines.append(name)
        lines += textwrap.wrap(meanings[field].split(". ")[0].rstrip("."), 76, initial_indent="    ", subsequent_indent="    ")
    lines += ["", "Settings, about two hundred: `tango help settings` has all.", "", "Others:", ""]
    for name, words in NO_SETTINGS.items():
        lines.append(name)
        lines += textwrap.wrap(words, 76, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(
        [*lines, "", "A variable that begins with TANGO_ and is none of these is refused, with the name that was meant."]
    )


def _exit_codes() -> str:
    from tango.cli.failures import EXIT_CODES

    return "\n".join(f"  {code:>3}  {words}" for code, words in EXIT_CODES.items()) + EXIT_CODES_USE


EXIT_CODES_USE = """

For scripts:

    tango run submit trace.csv --wait --timeout 600 --min-qos 0.95 || echo "exit code $?"
"""

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(
            name="runs",
            about="requests of one trace, or of a day's callers, and what became of them",
            words={
                "run": "requests under one system on one fleet, by kind: replayed (a trace on the live path), live (what callers send, a "
                "run a day), simulated",
                "request": 'what a user sends. Of CPU or memory, always "CPU request", "memory request": what Kubernetes reserves for '
                "a pod",
                "terminal": "succeeded, failed, shed or cancelled: will not change",
                "measured span": "trace seconds that the figures of a run are over: from 10 % of its span to the last arrival",
            },
            text="""
A run is submitted, begins when the clusters have their shares, and ends when its
last request is terminal; its figures are then computed once and kept.

    tango run submit trace.csv --follow
    tango run list --status running
    tango run show 3
    tango run requests 3 --late --slowest
    tango run cancel 3

Runs stay until somebody deletes them, or a setting does:

    tango run prune --older-than 30d --dry-run
""",
            page="metrics.md",
        ),
        Topic(
            name="systems",
            about="who decides: an LC policy, a BE policy and a sharing rule",
            words={
                "system": "a named set of one LC policy, one BE policy and one sharing rule",
                "policy": "the rule that dispatches or places, learned or not",
                "sharing rule": "who gets CPU and memory when both classes want it",
                "mix": "a system put together by hand: LC/BE/SHARING",
            },
            text="""
The same systems decide on live clusters and in the simulator.

    tango policy list
    tango simulate p3 --fleet testbed --system load-greedy
    tango run submit trace.csv --system dss-lc/load-greedy/burst
    tango live use tango

A policy of your own is a function in a file, wherever a policy is named:

    tango policy new near_home --to place.py
    tango simulate p3 --fleet testbed --be place.py:near_home
""",
            page="policies.md",
        ),
        Topic(
            name="traces",
            about="arrivals in files, or generated",
            words={
                "trace": "arrivals with class, service, entry and perhaps work, in time order",
                "speed": "trace seconds per wall second",
                "workload": "where the requests of a comparison come from, and at which load",
            },
            text="""
Traces of Google, Alibaba, Azure and the World Cup, and Tango's own CSV and Parquet are
read as they are, any other table by --map; what a file leaves open is drawn by --seed.

    tango trace info trace.csv
    tango trace info calls.csv --map "arrival_s=t_ms / 1000,class='lc'"
    tango trace generate p3 --rate 50 --duration 60 --out trace.csv
    tango trace convert task_events.csv.gz first20min.parquet --from 600 --to 1800
""",
            page="traces.md",
        ),
        Topic(
            name="fleets",
            about="the clusters, nodes, links and services that requests run on",
            words={
                "fleet": "the clusters, nodes, links and services of a run",
                "link": "what joins two clusters: a round-trip time and a bandwidth",
            },
            text="""
Wherever a fleet is named, a built-in name or a YAML file will do.

    tango fleet list
    tango fleet show testbed -o yaml > mine.yaml
    tango up --fleet mine.yaml --detach
""",
            page="fleets.md",
        ),
        Topic(
            name="clusters",
            about="embedded ones, and real ones that join",
            words={
                "cluster": "one Kubernetes cluster at one site",
                "centre": "where PostgreSQL and the scheduler are; the clusters may be far from it",
                "journal": "the SQLite file beside a cluster in which its LC requests live until they are terminal",
            },
            text="""
`tango up` starts the clusters of a fleet here, nodes and all. A real one, of
Kubernetes 1.33 or later, joins by kubeconfig and context:

    tango cluster check edge-7 --kubeconfig FILE --context edge-7
    tango cluster join edge-7 --kubeconfig FILE --context edge-7
    tango cluster list
    tango node list --cluster edge-7
    tango cluster remove edge-7 --dry-run
""",
            page="clusters.md",
        ),
        Topic(
            name="services",
            about="what is run: latency-critical instances, best-effort pods",
            words={
                "service": "a workload type, LC or BE, with CPU work, memory and (LC) target",
                "LC": "requests that must be answered within a target",
                "BE": "work without a target that fills what LC leaves; each request runs as a pod of its own",
                "instance": "a standing pod of an LC service",
            },
            text="""
    tango service apply -f my-api.yaml --dry-run
    tango service apply -f my-api.yaml --wait --timeout 120
    tango service list
    tango request my-api --path /v1/detect --method POST --data @image.jpg
""",
            page="services.md",
        ),
        Topic(
            name="jobs",
            about="best-effort work with a command and arguments of its own",
            words={"job": "a BE request of a caller, with a command, arguments and environment of its own"},
            text="""
    tango job submit --service transcode -- --input s3://a/b --preset fast
    tango job list --state running
    tango job logs 17-250004 --follow
    tango job wait 17-250004 --timeout 3600
""",
            page="jobs.md",
        ),
        Topic(
            name="checkpoints",
            about="learned networks, which of them decides, and how a candidate is tried",
            words={
                "checkpoint": "stored weights of a network, with a version and a hash",
                "shadow": "role of a checkpoint that decides beside the live one without acting",
            },
            text="""
    tango train --out my.ckpt --minutes 20
    tango checkpoint evaluate my.ckpt --fleet testbed
    tango checkpoint add my.ckpt --name my
    tango checkpoint shadow my
    tango checkpoint promote my --dry-run
""",
            page="checkpoints.md",
        ),
        Topic(
            name="history",
            about="what is kept of runs, how to ask it, and how long it stays",
            words={
                "attempt": "one try to serve a request; each has an epoch and, when it ends, a row",
                "decision": "one scheduling cycle: what was considered, what was planned, how long it took",
                "sample": "a node's state at one instant",
            },
            text="""
Everything is a row in PostgreSQL, for whoever may only read.

    tango sql --list
    tango sql @slowest --run 3
    tango sql --schema attempt
    tango export 3 --to requests.parquet
    tango up --detach --only store

Nothing is deleted by itself unless TANGO_RETENTION_OLDER_THAN_S (seconds) or
TANGO_RETENTION_MOST_GB (gigabytes) is set; by hand:

    tango run prune --older-than 30d --dry-run
    tango run prune --keep-bytes 20GB
""",
            page="sql.md",
        ),
        Topic(
            name="output",
            about="tables, and what scripts read",
            words={},
            text="""
Results go to stdout, messages to people go to stderr. -o wide has all columns,
-o json and -o yaml have whole rows in full precision, -o csv goes into tables.
On a narrow terminal columns are left out, which is said; in a pipe nothing is.

    tango run list -o json
    tango run requests 3 --late -o csv
    tango sql @qos -o csv

Names are completed by the shell: systems, fleets, services, clusters, runs,
requests, jobs, checkpoints, queries.

    tango completion bash

What destroys something asks, or wants --yes; --dry-run says what would be done.
""",
            page="sql.md",
        ),
        Topic(
            name="environment",
            about="variables that Tango reads",
            words={},
            text=_environment,
            page="operations/README.md",
        ),
        Topic(
            name="settings",
            about="every tunable, with its default",
            words={},
            text=_settings,
            page="operations/README.md",
        ),
        Topic(
            name="exit-codes",
            about="what a command's exit code says",
            words={},
            text=_exit_codes,
            page="guarantees.md",
        ),
    )
}
"""By name, in the order in which they are listed."""
