"""Completion of names in shells: what can stand where, for click's `shell_complete`.

A shell waits for each answer, so nothing is imported before it is needed, the store is asked once and for no longer than `WITHIN_S`, and
whatever goes wrong gives no names and not a word: a message would be printed into the line that somebody is typing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

WITHIN_S = 1.0
"""Seconds for the store's answer. One on this machine or a near one takes some hundredths; without it there is nothing to complete."""

Names: TypeAlias = "Iterable[tuple[str, str]]"
Completion: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]"


def completing(*finds: Callable[[str], Names], files: bool = False) -> Completion:
    """A `shell_complete` that puts the names of several lists forward; `files`: a file may stand there too.

    Each list is a function of what has been typed, and gives names with a few words beside each.
    """

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        found: dict[str, str] = {}
        for find in finds:
            with contextlib.suppress(Exception):
                for name, words in find(incomplete):
                    if name.startswith(incomplete):
                        found.setdefault(name, words)
        items = [CompletionItem(name, help=words or None) for name, words in found.items()]
        return [*items, CompletionItem(incomplete, type="file")] if files else items

    return complete


def listed(find: Callable[[str], Names]) -> Callable[[str], Names]:
    """The same list for the last of several names with commas between them."""

    def last(incomplete: str) -> Names:
        before, comma, part = incomplete.rpartition(",")
        return [(f"{before}{comma}{name}", words) for name, words in find(part) if name not in before.split(",")]

    return last


def stored(kind: str) -> Callable[[str], Names]:
    """Names of the store, of a kind that `tango.store.name_lists` knows."""

    def find(incomplete: str) -> Names:
        from tango.store.name_lists import names

        return _in_time(lambda: names(_url(), kind, incomplete))

    return find


def _requests(incomplete: str) -> Names:
    """RUN-REQUEST or RUN/REQUEST; before the run is named, the runs."""
    from tango.store.name_lists import names, request_names

    separator = "/" if "/" in incomplete else "-"
    run, found, number = incomplete.partition(separator)
    if not found:
        return [(f"{name}/", words) for name, words in _in_time(lambda: names(_url(), "runs", incomplete))]
    return _in_time(lambda: request_names(_url(), int(run), number, separator=separator))


def _in_time(look: Callable[[], Names]) -> Names:
    """What a look gives within `WITHIN_S`, else nothing: connecting may take longer than libpq can be told."""
    found: list[tuple[str, str]] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            found.extend(look())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    return [] if thread.is_alive() else found


def _url() -> str:
    """Where the store is: as `tango.bootstrap.environment` finds it, which would import much more."""
    from tango.stack.state import read_stack, state_home

    if named := os.environ.get("TANGO_DATABASE_URL"):
        return os.environ.get("TANGO_READER_URL") or named
    stack = read_stack(state_home(os.environ))
    return "" if stack is None else stack.database_url


def _systems(_incomplete: str) -> Names:
    from tango.domain.systems import SYSTEMS

    return [(system.name, f"{system.lc}/{system.be}/{system.sharing}") for system in SYSTEMS.values()]


def _parts(kind: str) -> Callable[[str], Names]:
    def find(_incomplete: str) -> Names:
        from tango.domain.systems import REFERENCE_BE, SYSTEMS

        names = dict.fromkeys(getattr(system, kind) for system in SYSTEMS.values())
        found = [(name, f"of {', '.join(s.name for s in SYSTEMS.values() if getattr(s, kind) == name)}") for name in names]
        return [*found, *((name, "an upper reference") for name in REFERENCE_BE if kind == "be")]

    return find


def _fleets(_incomplete: str) -> Names:
    spec = find_spec("tango.fleets")  # without importing it, and with it all that reads fleets
    folders = [Path(place) / "data" for place in (spec.submodule_search_locations or () if spec else ())]
    return [(file.stem, "built in") for folder in folders for file in sorted(folder.glob("*.yaml"))]


def _queries(_incomplete: str) -> Names:
    from tango.store.named_queries import QUERIES

    return [(f"@{name}", query.asks) for name, query in QUERIES.items()]


def _tables(_incomplete: str) -> Names:
    from tango.domain.dictionary import DICTIONARY

    return [(name, described.row) for name, described in DICTIONARY.items()]


def _patterns(_incomplete: str) -> Names:
    from tango.traces.generators import PATTERNS

    return [(name, "generated") for name in PATTERNS]


def _topics(_incomplete: str) -> Names:
    from tango.cli.topics import TOPICS

    return [(topic.name, topic.about) for topic in TOPICS.values()]


RUNS = completing(stored("runs"))
REQUESTS = completing(_requests)
JOBS = completing(stored("jobs"))
SERVICES = completing(stored("services"))
LC_SERVICES = completing(stored("lc-services"))
BE_SERVICES = completing(stored("be-services"))
CLUSTERS = completing(stored("clusters"))
NODES = completing(stored("nodes"))
PODS = completing(stored("pods"))
CHECKPOINTS = completing(stored("checkpoints"))
CHECKPOINTS_OR_FILES = completing(stored("checkpoints"), files=True)
TENANTS = completing(stored("tenants"))
TOKENS = completing(stored("tokens"))
SYSTEMS = completing(_systems)
SYSTEM_LISTS = completing(listed(_systems))
SYSTEMS_OF_RUNS = completing(_systems, stored("systems"))
LC_POLICIES = completing(_parts("lc"), files=True)
BE_POLICIES = completing(_parts("be"), files=True)
POLICIES = completing(_parts("lc"), _parts("be"), files=True)
SHARING_RULES = completing(_parts("sharing"))
FLEETS = completing(_fleets, files=True)
FLEET_LISTS = completing(listed(_fleets), files=True)
QUERIES = completing(_queries, _tables)
TABLES = completing(_tables)
TRACES = completing(_patterns, files=True)
PATTERNS = completing(_patterns)
PATTERN_LISTS = completing(listed(_patterns))
TOPICS = completing(_topics)
