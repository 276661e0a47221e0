"""Bugs that are planted in production code, one at a time, to see that seeds of the chaos world find them.

`python -m tests.chaos.mutations` plants each in a process of its own and runs seeds until one fails. A mutation replaces a text that
stands once in its module; nothing is written to disk.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType


@dataclass(frozen=True, slots=True)
class Mutation:
    """One planted bug."""

    name: str
    kind: str
    module: str
    before: str
    after: str


def _mutations(kind: str, *rows: tuple[str, str, str, str]) -> list[Mutation]:
    return [Mutation(name, kind, module, before, after) for name, module, before, after in rows]


MUTATIONS = [
    *_mutations(
        "lifecycle guards",
        (
            "end-only-what-runs",
            "tango.domain.lifecycle",
            "event=Event.SUCCEED,\n            service_class=service_class,\n            before=IN_FLIGHT,",
            "event=Event.SUCCEED,\n            service_class=service_class,\n            before=(_S.RUNNING,),",
        ),
        (
            "succeed-twice",
            "tango.domain.lifecycle",
            "event=Event.SUCCEED,\n            service_class=service_class,\n            before=IN_FLIGHT,",
            "event=Event.SUCCEED,\n            service_class=service_class,\n            before=(*IN_FLIGHT, _S.SUCCEEDED),",
        ),
        (
            "claim-what-runs",
            "tango.domain.lifecycle",
            "event=Event.CLAIM,\n        service_class=_LC,\n        before=(_S.DISPATCHED,),",
            "event=Event.CLAIM,\n        service_class=_LC,\n        before=(_S.DISPATCHED, _S.RUNNING),",
        ),
        (
            "attempts-never-spent",
            "tango.journal.attempts",
            "if event is Event.REQUEUE and attempt >= self._max_attempts:",
            "if event is Event.REQUEUE and attempt > 2 * self._max_attempts + 3:",
        ),
        (
            "requeued-as-dispatched",
            "tango.domain.lifecycle",
            "((_LC, _S.RELEASED, (Write.RELEASED_AT,)), (_BE, _S.PENDING, ()))",
            "((_LC, _S.DISPATCHED, (Write.RELEASED_AT,)), (_BE, _S.PENDING, ()))",
        ),
    ),
    *_mutations(
        "leases",
        (
            "two-keepers",
            "tango.journal.journal",
            "WHERE l.owner = excluded.owner OR l.until_s < ?4",
            "WHERE l.owner = excluded.owner OR l.until_s < ?4 + 1.9",
        ),
        ("requeue-what-stands", "tango.journal.attempts", "AND (r.lease_until_s < ?1\n", "AND (r.lease_until_s < ?1 + 60.0\n"),
        (
            "dead-heartbeat",
            "tango.journal.attempts",
            "connection.execute(_HEARTBEAT, (owner, self._wall_s() + lease_s))",
            "connection.execute(_HEARTBEAT, (owner, self._wall_s() - lease_s))",
        ),
        (
            "running-pods-not-renewed",
            "tango.control.cluster_agent",
            "running = [(*key, started_s) for key, started_s in self._started.items() if key not in given_up and key not in blind]",
            "running = [(*key, started_s) for key, started_s in self._started.items() if key in given_up and key not in blind]",
        ),
        (
            "dispatched-for-ever",
            "tango.journal.attempts",
            "AND (r.lease_until_s < ?1\n",
            "AND (r.lease_until_s < ?1 - 900.0\n",
        ),
    ),
    *_mutations(
        "epochs",
        ("end-any-epoch", "tango.journal.attempts", "if row is None or row[2] != epoch:", "if row is None:"),
        ("first-epoch-on-pods", "tango.kube.manifests", "pod_marks.EPOCH: str(p.epoch),", "pod_marks.EPOCH: str(min(p.epoch, 1)),"),
        (
            "result-of-the-next-epoch",
            "tango.control.execute_lc",
            "            epoch=work.epoch,\n            event=event,",
            "            epoch=work.epoch + 1,\n            event=event,",
        ),
        (
            "epoch-stays",
            "tango.journal.lc_requests",
            "epoch, attempt, (cluster, node), was_late = epoch + 1, attempt + 1, nodes[node_row], late",
            "epoch, attempt, (cluster, node), was_late = max(1, epoch), attempt + 1, nodes[node_row], late",
        ),
        ("older-pods-stay", "tango.kube.cluster_calls", "if placement.epoch > 1 else ()", "if placement.epoch > 9 else ()"),
    ),
    *_mutations(
        "binding",
        (
            "bound-elsewhere",
            "tango.kube.cluster_calls",
            "body=binding(name, uid, placement.node))",
            'body=binding(name, uid, "n0"))',
        ),
        (
            "never-bound",
            "tango.kube.cluster_calls",
            'if pod["spec"].get("nodeName") == placement.node:\n            return',
            'if pod["spec"].get("nodeName") != placement.node:\n            return',
        ),
        (
            "orphans-stay",
            "tango.control.be_pods",
            "            if key not in wanted:\n",
            "            if key not in wanted and key[2] > 9:\n",
        ),
        (
            "unbound-renewed",
            "tango.control.cluster_agent",
            '                or not pod["spec"].get("nodeName")\n',
            "",
        ),
    ),
    *_mutations(
        "shipping of the edge journal",
        (
            "forget-before-apply",
            "tango.control.centre_line",
            "            position = self._shares.apply(shipment)\n",
            "            self._journal.shipped(shipment.last)\n            position = self._shares.apply(shipment)\n",
        ),
        (
            "first-state-told",
            "tango.journal.shipping",
            "of_request[row[_KEY]] = row",
            "of_request.setdefault(row[_KEY], row)",
        ),
        (
            "live-forgotten",
            "tango.journal.shipping",
            "    SELECT run_id, request_id FROM event WHERE seq > ? AND seq <= ? AND state IN {TERMINAL_STATES}\n"
            ") AND state IN {TERMINAL_STATES} AND tenant IS NULL",
            "    SELECT run_id, request_id FROM event WHERE seq > ? AND seq <= ?\n) AND tenant IS NULL",
        ),
    ),
    *_mutations(
        "requests of callers and jobs",
        (
            "key-not-kept",
            "tango.journal.callers",
            'connection.executemany("INSERT INTO call_key VALUES (?, ?, ?, ?, ?, ?)", keys)',
            'connection.executemany("INSERT INTO call_key VALUES (?, ?, ?, ?, ?, ?)", keys[1:])',
        ),
        (
            "all-may-repeat",
            "tango.control.serve_callers",
            "may_repeat = called.call.is_repeatable or not error.was_sent",
            "may_repeat = True",
        ),
        (
            "repeated-after-a-death",
            "tango.journal.attempts",
            "SELECT r.run_id, r.request_id, r.epoch, r.is_repeatable OR r.state NOT IN",
            "SELECT r.run_id, r.request_id, r.epoch, r.is_repeatable >= 0 OR r.state NOT IN",
        ),
        (
            "closed-run-let-go",
            "tango.journal.callers",
            "return all(connection.execute(sql, (run_id,)).fetchone() is None for sql in (live, event))",
            "return True",
        ),
        (
            "block-given-again",
            "tango.journal.callers",
            'connection.execute("UPDATE number_block SET next = ? WHERE run_id = ? AND first = ?", (end, run_id, first))',
            'connection.execute("UPDATE number_block SET next = ? WHERE run_id = ? AND first = ?", (end - 1, run_id, first))',
        ),
        (
            "one-retry-too-many",
            "tango.domain.jobs",
            "again = self.is_own_fault and retries_left > 0 and",
            "again = self.is_own_fault and retries_left > -1 and",
        ),
    ),
    *_mutations(
        "losses of power and disks",
        (
            "shipped-before-the-disk",
            "tango.journal.shipping",
            "        self._database.sync()\n        return _collapsed(",
            "        return _collapsed(",
        ),
        (
            "told-before-the-disk",
            "tango.gateway.intake",
            "return self.waiting is None or bool(self.request.key)",
            "return False",
        ),
        (
            "numbers-given-again",
            "tango.journal.callers",
            "UPDATE number_block SET next = min(last + 1, next + ?)",
            "UPDATE number_block SET next = min(last + 1, next + 0 * ?)",
        ),
        (
            "called-again-after-power",
            "tango.journal.callers",
            "tenant IS NOT NULL AND NOT is_repeatable",
            "tenant IS NULL AND NOT is_repeatable",
        ),
        (
            "lost-journal-not-noticed",
            "tango.control.centre_line",
            "self._told is not None and not {run.run_id",
            "self._told is None and not {run.run_id",
        ),
    ),
    *_mutations(
        "order of locks",
        (
            "plan-takes-reading",
            "tango.control.fleet_view",
            "        with self._lock:\n            known = self._snapshot\n",
            "        with self._lock, self._reading:\n            known = self._snapshot\n",
        ),
        (
            "turn-within-turn",
            "tango.control.be_pods",
            "        async with self._store_turn:\n            wanted =",
            "        async with self._store_turn, self._store_turn:\n            wanted =",
        ),
        (
            "write-under-connections",
            "tango.journal.database",
            '            return self._run(work, "BEGIN IMMEDIATE")\n',
            '            with self._lock:\n                return self._run(work, "BEGIN IMMEDIATE")\n',
        ),
    ),
]
"""Every planted bug, by kind."""


class Planting(importlib.abc.MetaPathFinder):
    """Finds the module of a mutation, with its text changed."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Of that module alone."""
        if name != self._mutation.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Mutated(name, spec.origin, self._mutation)
        return spec


class _Mutated(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        text = self.get_data(self.path).decode()
        found = text.count(self._mutation.before)
        if found != 1:
            raise SystemExit(f"mutation {self._mutation.name}: its text stands {found} times in {self.path}, expected once")
        return compile(text.replace(self._mutation.before, self._mutation.after), self.path, "exec", dont_inherit=True)


def plant(name: str) -> None:
    """Plant a bug in this process; before anything of `tango` is imported."""
    (mutation,) = [m for m in MUTATIONS if m.name == name]
    assert mutation.module not in sys.modules, "planted too late"
    sys.meta_path.insert(0, Planting(mutation))


def main(arguments: list[str]) -> int:
    """Exit status 1: some bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutations", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="seeds for each bug at the most")
    parser.add_argument("--only", help="one bug, or one kind")
    parser.add_argument("--kinds", help="kinds of faults that are drawn, with commas between them; else all")
    parser.add_argument("--within-s", type=float, default=float("inf"), help="begin no further bug after so many seconds")
    options = parser.parse_args(arguments)
    missed, began_s = 0, time.monotonic()
    for mutation in MUTATIONS:
        if options.only not in (None, mutation.name, mutation.kind):
            continue
        if time.monotonic() - began_s > options.within_s:
            break
        command = [sys.executable, "-m", "tests.chaos", "--seeds", f"0..{options.seeds}", "--stop", "--plant", mutation.name]
        if options.kinds:
            command += ["--kinds", options.kinds]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False)
        failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
        missed += not failed
        told = failed[0] if failed else f"NOT FOUND {(done.stderr.strip().splitlines() or [''])[-1]}"
        print(f"{mutation.kind:30s} {mutation.name:26s} {told[:160]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
