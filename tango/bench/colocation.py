"""`tango bench colocation`: what BE costs LC on a node, without and with the node agent, and what BE gets; on this host's kernel and on one
of its own."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from tango.bench import colocation_load
from tango.bench.figures import Figure, Told
from tango.bench.guest import Guest, installed_kernel
from tango.errors import ConfigError, DependencyError

CGROUPS = Path("/sys/fs/cgroup")
MOST_AS_LONG, LEAST_OF_REST = 1.25, 0.9
"""The goal: LC's 99th percentile at most so many times what it is alone, while BE gets at least this share of what LC leaves."""
SLOWER = 20.0
"""Times that a guest may take longer than its phases, for its start and its programs'."""


def measure(*, kernel: str, image: Path | None, seconds: float, rounds: int, told: Told) -> list[Figure]:
    """Figures for `kernel`: `host`, `own` or `both`. Where it is both, one that cannot be measured is told and left out.

    Raises: ConfigError, DependencyError where nothing can be measured.
    """
    arguments = {"root": str(CGROUPS), "seconds": seconds, "rounds": rounds}
    found: list[Figure] = []
    errors: list[ConfigError | DependencyError] = []
    for one in ("host", "own") if kernel == "both" else (kernel,):
        told(f"{one} kernel: {rounds} rounds of {len(colocation_load.PHASES)} phases of {seconds:g} s")
        try:
            if one == "host":
                measured = colocation_load.run(arguments)
            else:
                guest = Guest(kernel=image or installed_kernel(), within_s=SLOWER * rounds * (seconds + 10))
                measured = guest.run(colocation_load.__name__, arguments)
        except (ConfigError, DependencyError) as error:
            errors.append(error)
            told(f"{one} kernel: not measured: {error}")
            continue
        for number, phases in enumerate(measured["rounds"], 1):
            shown = ", ".join(f"{name} {one['p99_ms']:.1f} ms, BE {one['be_share']:.2f}" for name, one in phases.items())
            agent = phases["managed"]
            told(f"  round {number}: {shown}")
            told(
                f"    agent: {agent['looks']} looks of {agent['look_ms']:.2f} ms, BE may have {agent['quota']:.2f} of what LC leaves, "
                f"pressure on LC {agent['pressure']:.2f} at the 90th percentile of looks"
            )
        found += figures(one, measured)
    if not found:
        raise errors[0]
    return found


def figures(kernel: str, measured: dict[str, Any]) -> list[Figure]:
    """The medians over the rounds."""

    def of(phase: str, what: str) -> float:
        return float(median(one[phase][what] for one in measured["rounds"]))

    where = f"{kernel} (v{measured['version']})"
    alone = of("alone", "p99_ms")
    beside = [
        Figure(
            name=f"{where}: LC p99 {words}",
            value=of(phase, "p99_ms"),
            unit="ms",
            yardstick="alone",
            yardstick_value=alone,
        )
        for phase, words in (("unmanaged", "beside BE"), ("managed", "with agent"))
    ]
    share = [
        Figure(
            name=f"{where}: BE's share of what LC leaves, {words}",
            value=of(phase, "be_share"),
            unit="",
            yardstick="goal",
            yardstick_value=LEAST_OF_REST,
        )
        for phase, words in (("unmanaged", "beside BE"), ("managed", "with agent"))
    ]
    share += [
        Figure(
            name=f"{where}: BE's share of what LC and others leave, with agent",
            value=of("managed", "be_share_beside_others"),
            unit="",
            yardstick="goal",
            yardstick_value=LEAST_OF_REST,
        ),
        Figure(name=f"{where}: share of the CPUs that others used meanwhile", value=of("managed", "others"), unit=""),
    ]
    looks = [
        Figure(name=f"{where}: CPU of a look at these 3 pods", value=of("managed", "look_ms"), unit="ms"),
        Figure(
            name=f"{where}: CPU of a look at {colocation_load.MANY_LC + colocation_load.MANY_BE} pods, nothing pressing",
            value=measured["look_at_many_ms"],
            unit="ms",
        ),
    ]
    return [Figure(name=f"{where}: LC p99 alone", value=alone, unit="ms"), *beside, *share, *looks]
