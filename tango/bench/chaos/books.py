"""The books under faults: a thread looks at all stores and clusters again and again, and notes what cannot be.

LC by id is as the journal of its cluster has it or, where that does not, as the centre has it; BE as the centre has it; pods are as the
API servers have them. What is away at a look is left out of it. See docs/guarantees.md for what is promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg2

from tango.domain.lifecycle import TERMINAL
from tango.domain.pod_marks import CLASS, MANAGED_BY, REQUEST, RUN
from tango.domain.quantities import cpu_millicores
from tango.errors import TangoError
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings
from tango.stack.state import read_stack

BOOKS_EVERY_S = 0.5
ANSWERS_WITHIN_S = 2.0
"""Seconds for one look at a store or an API server; one that hangs is left out."""
ENDING_S = 1.0
"""Seconds after which two pods of one request that run are looked at again: the API servers are asked one after another, and one pod may
have ended, and the next begun, in between."""


@dataclass(slots=True)
class BothBooks:
    """What both sides had at one moment."""

    state: dict[int, str]
    """Of every request of the run."""
    held: Mapping[str, set[int]]
    """By cluster: LC requests that its journal has."""
    share: Mapping[str, tuple[int, set[int]]]
    """By cluster: the last request that the centre knew its journal to have, before either was read, and all LC that entered there."""
    succeeded: Sequence[tuple[int, int]]
    """(request, epoch) of attempts that succeeded, on either side, each pair once."""
    placed: Set[tuple[int, int]] = frozenset()
    """(request, epoch) of BE in flight."""


class Looks(Protocol):
    """Where the books look: a stack, or two hosts."""

    def requests(self) -> BothBooks | None:
        """Both sides now; None while there is nothing to look at. Raises: whatever `AWAY` has, for a store that is away."""

    async def pods_amiss(self, books: Books) -> None:
        """Note in the books what is wrong with pods."""


AWAY = (psycopg2.Error, sqlite3.OperationalError, OSError, TangoError)
"""A store restarts, or its disk is full: a look that meets it is left out."""


@dataclass(slots=True)
class Books:
    """A thread looks at one run again and again, from `with` to its end. `mistakes` holds what was wrong, in words."""

    at: Looks
    every_s: float = BOOKS_EVERY_S
    on_look: Callable[[BothBooks], None] = lambda _: None
    """Called in the thread with each look."""
    mistakes: list[str] = field(default_factory=list)
    looks: int = 0
    pod_looks: Counter[str] = field(default_factory=Counter)
    """By cluster: how often its pods were looked at."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Books:
        self._thread = threading.Thread(target=self._keep, name="books", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(30.0)

    def _keep(self) -> None:
        with asyncio.Runner() as runner:
            before: BothBooks | None = None
            while not self._over.wait(self.every_s):
                try:
                    runner.run(self.at.pods_amiss(self))
                    found = self.at.requests()
                except AWAY:
                    continue
                except Exception as error:  # the thread must not end in silence
                    self.mistakes.append(f"the books: {error!r}")
                    return
                if found is None:
                    continue
                self.mistakes += wrong(before, found)
                before, self.looks = found, self.looks + 1
                self.on_look(found)


@dataclass(frozen=True, slots=True)
class StackLooks:
    """A stack on this machine: its centre, the journals of its clusters, and their API servers."""

    home: Path
    run_id: int

    def requests(self) -> BothBooks | None:
        """As `look` finds them."""
        return look(self.home, self.run_id)

    async def pods_amiss(self, books: Books) -> None:
        """Nodes with more than they have, and two pods of one request."""
        found = await pods_of(self.home)
        books.pod_looks.update(found.keys())
        books.mistakes += [words for cluster, (nodes, pods) in found.items() for words in overcommitted(cluster, nodes, pods)]
        if not running_twice(found):
            return
        await asyncio.sleep(ENDING_S)
        again = await pods_of(self.home)
        twice = {key: where for key, where in running_twice(again).items() if where == running_twice(found).get(key)}
        books.mistakes += [f"two pods of request {key} run at once: {sorted(where)}" for key, where in twice.items()]


# ---- requests ------------------------------------------------------------------------------------------------------------


def look(home: Path, run_id: int) -> BothBooks | None:
    """One look at journals and centre; None while no stack runs there.

    Raises: psycopg2.Error or sqlite3.OperationalError for a store that is away.
    """
    info = read_stack(home)
    if info is None:
        return None
    timeout_ms = int(1e3 * ANSWERS_WITHIN_S)
    url = info.reader_url.replace("+psycopg2", "")
    with contextlib.closing(psycopg2.connect(url, connect_timeout=2, options=f"-c statement_timeout={timeout_ms}")) as connection:
        connection.set_session(readonly=True, autocommit=True)
        with connection.cursor() as cursor:

            def rows(query: str) -> list[tuple[Any, ...]]:
                cursor.execute(query, (run_id,))
                return list(cursor.fetchall())

            return both_sides(rows, lambda cluster: home / "data" / "journals" / f"{cluster}.db", run_id)


def both_sides(rows: Callable[[str], Sequence[tuple[Any, ...]]], journal_of: Callable[[str], Path], run_id: int) -> BothBooks:
    """One look at the centre, by `rows` of a query about the run, and at the journal files of its clusters."""
    # In this order: what a journal gives away is at the centre before it leaves the journal.
    handed = dict(rows("SELECT cluster, handed_to FROM lc_share WHERE run_id = %s"))
    journals = {cluster: _journal(journal_of(cluster), run_id) for cluster in handed}
    there = rows("SELECT request_id, state::text, class::text, cluster, epoch FROM request WHERE run_id = %s")
    won = rows("SELECT request_id, epoch FROM attempt WHERE run_id = %s AND outcome = 'succeeded'")
    of: dict[str, set[int]] = defaultdict(set)
    for request_id, _, kind, cluster, _ in there:
        if kind == "lc":
            of[cluster].add(request_id)
    here = {request_id: state for states, _ in journals.values() for request_id, state in states.items()}
    return BothBooks(
        state={request_id: state for request_id, state, *_ in there} | here,
        held={cluster: set(states) for cluster, (states, _) in journals.items()},
        share={cluster: (handed_to, of[cluster]) for cluster, handed_to in handed.items()},
        succeeded=sorted({*won, *(pair for _, pairs in journals.values() for pair in pairs)}),
        placed={
            (request_id, epoch) for request_id, state, kind, _, epoch in there if kind == "be" and state in ("placed", "running")
        },
    )


def _journal(path: Path, run_id: int) -> tuple[dict[int, str], set[tuple[int, int]]]:
    """States of what the journal has, and attempts that succeeded there."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=ANSWERS_WITHIN_S)) as journal:
        journal.execute("BEGIN")
        states = dict(journal.execute("SELECT request_id, state FROM request WHERE run_id = ?", (run_id,)).fetchall())
        won = journal.execute("SELECT request_id, epoch FROM event WHERE run_id = ? AND outcome = 'succeeded'", (run_id,))
        return states, set(won.fetchall())


def wrong(before: BothBooks | None, now: BothBooks) -> list[str]:
    """What cannot be: a request with neither side, with two successes, gone, or changed after its end."""
    ended = {k for k, state in now.state.items() if state in TERMINAL}
    found = []
    for cluster, (handed_to, entered) in now.share.items():
        lost = sorted(k for k in entered if k <= handed_to and k not in now.held[cluster] and k not in ended)
        found += [f"neither the journal of {cluster} nor the centre has requests {lost}"] * bool(lost)
    twice = sorted(k for k, times in Counter(k for k, _ in now.succeeded).items() if times > 1)
    found += [f"requests {twice} succeeded twice"] * bool(twice)
    if before is not None:
        if len(before.state) != len(now.state):
            found.append(f"{len(before.state)} requests became {len(now.state)}")
        changed = sorted(k for k, was in before.state.items() if was in TERMINAL and now.state.get(k) != was)
        found += [f"requests {changed} changed after their end"] * bool(changed)
    return found


# ---- pods ----------------------------------------------------------------------------------------------------------------

Pods = Mapping[str, tuple[Sequence[Any], Sequence[Any]]]
"""By cluster whose API server answers: its nodes, and Tango's pods there."""


async def pods_of(home: Path) -> Pods:
    """What the API servers of the embedded clusters have; without those that do not answer."""
    info = read_stack(home)
    if info is None:
        return {}
    settings = KubeSettings(attempts=1)
    found = {}
    for cluster in info.gateways:
        with contextlib.suppress(TangoError, OSError):
            client = await KubeClient.from_kubeconfig(info.kubeconfig, f"{cluster}-admin", settings, cluster=cluster)
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    nodes, _ = await client.list("/api/v1/nodes")
                    pods, _ = await client.list("/api/v1/pods", labelSelector=f"{MANAGED_BY}=tango")
                    found[cluster] = nodes, pods
            finally:
                await client.close()
    return found


def overcommitted(cluster: str, nodes: Iterable[Any], pods: Iterable[Any]) -> list[str]:
    """Nodes whose pods ask for more CPU than there is."""
    asked: Counter[str] = Counter()
    for pod in pods:
        if pod["spec"].get("nodeName") and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            for container in pod["spec"]["containers"]:
                asked[pod["spec"]["nodeName"]] += cpu_millicores(container.get("resources", {}).get("requests", {}).get("cpu", "0"))
    has = {node["metadata"]["name"]: cpu_millicores(node["status"]["allocatable"]["cpu"]) for node in nodes}
    return [f"pods on {cluster}/{name} ask for {asked[name]} of {has[name]} millicores" for name in has if asked[name] > has[name]]


def running_twice(found: Pods) -> dict[str, set[str]]:
    """By request with more than one BE pod that runs: those pods."""
    running: dict[str, set[str]] = defaultdict(set)
    for cluster, (_, pods) in found.items():
        for pod in pods:
            labels = pod["metadata"].get("labels", {})
            if labels.get(CLASS) == "be" and pod.get("status", {}).get("phase") == "Running":
                running[f"{labels.get(RUN)}/{labels.get(REQUEST)}"].add(f"{cluster}/{pod['metadata']['name']}")
    return {key: where for key, where in running.items() if len(where) > 1}


def orphans(found: Pods) -> list[str]:
    """BE pods that are still there."""
    return [
        f"{cluster}/{pod['metadata']['name']}"
        for cluster, (_, pods) in found.items()
        for pod in pods
        if pod["metadata"].get("labels", {}).get(CLASS) == "be"
    ]
