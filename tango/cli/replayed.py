"""`tango simulate --run`: simulate a recorded live run's requests and print both runs' figures and the gaps between them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tango.cli.checkpoint_files import checkpoints_of
from tango.cli.output import Column, print_mapping, print_rows, say
from tango.cli.progress import progress
from tango.cli.workloads import systems_of, variations_of
from tango.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from tango.bootstrap.stores import Stores
    from tango.domain.fleet import Fleet
    from tango.domain.outcomes import NodeSamples, RunOutcomes
    from tango.systems import System


class Compared(NamedTuple):
    """A figure that is printed for the live and for the simulated run."""

    key: str
    title: str
    unit: str
    """Unit of the gap. `points`: the figure is a share, the gap is in percentage points; `percent`: the gap is relative to the live
    figure; else the gap is a plain difference in that unit."""


COMPARED = (
    Compared("lc_qos_rate", "QoS rate", "points"),
    Compared("be_cpu_seconds_per_s", "BE throughput, CPU-s/s", "percent"),
    Compared("utilization_cpu", "utilisation, CPU", "points"),
    Compared("utilization_memory", "utilisation, memory", "points"),
    Compared("lc_latency_p50_ms", "LC latency p50, ms", "ms"),
    Compared("lc_latency_p95_ms", "LC latency p95, ms", "ms"),
    Compared("lc_latency_p99_ms", "LC latency p99, ms", "ms"),
    Compared("be_completed", "BE completed", "percent"),
    Compared("evictions", "evictions", ""),
    Compared("resizes", "resizes", ""),
)
COLUMNS = (
    Column("figure", priority=10),
    Column("live", justify="right", priority=10),
    Column("simulated", justify="right", priority=10),
    Column("gap", justify="right", priority=10),
)


def show_replayed(run_id: int, system_name: str | None, fleet_name: str | None, options: Mapping[str, Any], output: str) -> None:
    """Simulate a recorded live run from its stored rows and print the figures of both runs.

    `system_name` and `fleet_name` replace the run's own system and fleet; None keeps them. Raises: UsageError for a run that is
    simulated or has not completed, or whose fleet cannot be found.
    """
    from tango.bootstrap.stores import stores
    from tango.control.finish_run import figures_now
    from tango.domain.runs import RunKind, RunStatus
    from tango.experiments.replaying import live_delays, replay

    here = stores()
    info = here.runs.run(run_id)
    if info.kind is not RunKind.LIVE or info.status is not RunStatus.COMPLETED:
        raise UsageError(f"run {run_id} is {info.kind} and {info.status}, expected a live run that is completed")
    variations = variations_of(options)
    if len(variations) > 1:
        raise UsageError("more than one simulation is asked for; --run takes one --beta and one --staleness")
    records = here.records
    outcomes, samples = records.outcomes(run_id), records.node_samples(run_id)
    fleet = _fleet_of(here, outcomes, samples, fleet_name)
    system = _system_of(system_name, outcomes, options)
    settings = here.settings
    if file := checkpoints_of((system,), options).get(system.name):
        settings = dataclasses.replace(settings, checkpoint=file.path, checkpoint_policy=file.policy)
    delays = live_delays(outcomes, records.decisions(run_id), records.scaling_events(run_id), fleet, here.settings)
    with progress("Simulating", total=100, unit="%") as advance:
        shown = 0.0

        def moved(share: float, _now_s: float) -> None:
            nonlocal shown
            advance(100 * share - shown)
            shown = 100 * share

        run, simulated = replay(outcomes, delays, fleet, system, settings, variations[0][1], progress=moved)
    for note in run.notes:
        say(f"note: {note}")
    live = figures_now(run_id, records=records)
    gaps = {figure.key: _gap(live[figure.key], simulated[figure.key], figure.unit) for figure in COMPARED}
    if output in ("json", "yaml"):
        found = {**simulated, "digest": run.digest, "events": run.events, "wall_s": run.took_s, "simulated_requests": len(outcomes)}
        document = {
            "live": dict(live),
            "simulated": found,
            "gap": gaps,
            "delays": delays.as_dict(),
            "fleet_hash": fleet.source_hash,
        }
        print_mapping(document, output)
        return
    rows = [
        {
            "figure": figure.title,
            "live": _figure(live[figure.key], figure.unit),
            "simulated": _figure(simulated[figure.key], figure.unit),
            "gap": _difference(gaps[figure.key], figure.unit),
        }
        for figure in COMPARED
    ]
    print_rows(rows, COLUMNS, output)
    say(
        f"run {run_id} under {system.name}: LC windows of {delays.lc_window_s * 1e3:g} ms, {delays.lc_dispatch_s * 1e3:.1f} ms from there "
        f"to the call, {delays.be_cycle_s * 1e3:.1f} ms a BE cycle, {delays.pod_start_s * 1e3:.0f} ms to start a pod, as in the live run"
    )


def _system_of(name: str | None, outcomes: RunOutcomes, options: Mapping[str, Any]) -> System:
    """The named system, else the run's own.

    A run that was submitted with --no-reassure never resized an instance, so its simulation gets the sharing rule `static`.
    """
    systems = systems_of(name or outcomes.system, options)
    if len(systems) > 1:
        raise UsageError("more than one system is named; --run simulates one")
    if not outcomes.reassure and not name and not options.get("sharing"):
        from tango.systems import mixed

        return mixed(systems[0], sharing="static")
    return systems[0]


def _fleet_of(here: Stores, outcomes: RunOutcomes, samples: NodeSamples, named: str | None) -> Fleet:
    """The fleet that the run ran on: the named one, else the one in force or the built-in one of its name if the run's hash is its own.

    Clusters that had joined by kubeconfig are added as they were observed. Raises: UsageError if neither has the run's hash.
    """
    from tango.fleets import load_fleet

    if named is not None:
        return _with_joined(here, load_fleet(named), outcomes, samples)
    found = []
    with contextlib.suppress(UsageError):  # nothing was ever declared: a database that was brought along
        found.append(here.fleet.declared())
    with contextlib.suppress(UsageError, ConfigError):  # the fleet came from a file
        found.append(load_fleet(outcomes.fleet))
    for fleet in found:
        if fleet.source_hash == outcomes.fleet_hash:
            return _with_joined(here, fleet, outcomes, samples)
    raise UsageError(
        f"run {outcomes.run_id} ran on fleet {outcomes.fleet!r} ({outcomes.fleet_hash[:12]}), which is neither in force nor built in; "
        "name its file with --fleet FILE"
    )


def _with_joined(here: Stores, fleet: Fleet, outcomes: RunOutcomes, samples: NodeSamples) -> Fleet:
    """The fleet with the joined clusters that it does not declare, made of the nodes that the run's samples contain.

    A node gets the mean of what was observed to be allocatable; links get the RTT and bandwidth of the current snapshot.
    """
    from tango.domain.fleet import Cluster, Link, Node

    known = {c.name for c in fleet.clusters}
    joined = [k for k, name in enumerate(outcomes.clusters) if name not in known and (outcomes.node_cluster == k).any()]
    if not joined:
        return fleet
    clusters = []
    for k in joined:
        nodes = []
        for n in np.flatnonzero(outcomes.node_cluster == k).tolist():
            seen = samples.node == n
            if seen.any():
                cpu, memory = samples.cpu_allocatable_millicores[seen].mean(), samples.memory_allocatable_mib[seen].mean()
                devices = samples.extended_allocatable[:, seen].mean(axis=1) if samples.extended else []
                extended = tuple(
                    (name, round(amount)) for name, amount in zip(samples.extended, devices, strict=True) if amount >= 1
                )
                nodes.append(Node(name=outcomes.nodes[n], cpu_millicores=round(cpu), memory_mib=round(memory), extended=extended))
        clusters.append(Cluster(name=outcomes.clusters[k], nodes=tuple(nodes)))
    snapshot = here.fleet.snapshot(at_s=0.0)
    at = {name: k for k, name in enumerate(snapshot.clusters)}
    links = [
        Link(
            from_cluster=a.name,
            to_cluster=b.name,
            rtt_ms=float(snapshot.rtt_ms[at[a.name], at[b.name]]),
            bandwidth_mbit_per_s=float(snapshot.bandwidth_mbit_per_s[at[a.name], at[b.name]]),
        )
        for j, a in enumerate(clusters)
        for b in (*fleet.clusters, *clusters[:j])
        if a.name in at and b.name in at
    ]
    return dataclasses.replace(fleet, clusters=(*fleet.clusters, *clusters), links=(*fleet.links, *links))


def _gap(live: Any, simulated: Any, unit: str) -> float | None:
    """Simulated minus live, in the unit of the figure."""
    if live is None or simulated is None:
        return None
    if unit == "percent":
        return 100 * (simulated - live) / live if live else None
    return float((simulated - live) * (100 if unit == "points" else 1))


def _figure(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "points":
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if unit == "ms" else f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def _difference(gap: float | None, unit: str) -> str:
    if gap is None:
        return "–"
    return f"{gap:+.1f}{ {'points': ' points', 'percent': ' %', 'ms': ' ms'}.get(unit, '') }" if unit else f"{gap:+g}"
