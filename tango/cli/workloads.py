"""Options that `simulate`, `compare` and `tune` share, and what they mean: workloads, fleets, systems and changed settings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.trace_files import map_of, map_option, say_notes
from tango.domain.pattern_defaults import DEFAULT_DURATION_S, DEFAULT_LOAD
from tango.errors import UsageError

if TYPE_CHECKING:
    from tango.systems import System
    from tango.traces.workloads import Workload

_F = TypeVar("_F", bound=Callable[..., Any])

SIM_FIELDS = {
    "beta": "beta",
    "staleness": "staleness_s",
    "window": "lc_window_s",
    "tick": "be_tick_s",
    "mtbf": "mtbf_s",
    "mttr": "mttr_s",
}
"""By option of the command line: the field of `SimSettings` that it sets."""


def workload_options(function: _F) -> _F:
    """Decorator that adds the options describing the requests: sources, load, duration, hotspots."""
    for option in reversed(
        (
            click.option("--be-trace", multiple=True, metavar="SOURCE", help="BE requests from here; TRACE then gives LC alone."),
            click.option(
                "--load",
                "loads",
                multiple=True,
                type=Real(min=0, min_open=True),
                help=f"Offered CPU work over the fleet's CPU; default: as the files are, {DEFAULT_LOAD} for patterns.",
            ),
            click.option("--lc-load-share", type=Real(0, 1), default=0.4, show_default=True, help="LC's part of the load."),
            click.option(
                "--duration",
                type=Real(min=0, min_open=True),
                metavar="S",
                help=f"Seconds of arrivals; default: all of the files, {DEFAULT_DURATION_S:g} for patterns.",
            ),
            click.option("--from", "from_s", type=Real(min=0), default=0.0, metavar="S", help="Begin here in the files."),
            click.option("--be-from", "be_from_s", type=Real(min=0), metavar="S", help="The same for --be-trace."),
            map_option(of="TRACE"),
            map_option("--be-map", of="--be-trace"),
            click.option("--hotspots", type=Whole(min=0), default=0, help="Clusters with a flash crowd; they change."),
            click.option(
                "--hotspot-factor",
                type=Real(min=1),
                default=5.0,
                show_default=True,
                help="Arrivals at a cluster with a flash crowd over those at another.",
            ),
        )
    ):
        function = option(function)
    return function


LC_OPTION = click.option(
    "--lc",
    "lc",
    metavar="POLICY",
    help="Another LC policy in the system: a name, or FILE.py:FUNCTION.",
    shell_complete=names.LC_POLICIES,
)
BE_OPTION = click.option(
    "--be",
    "be",
    metavar="POLICY",
    help="Another BE policy in the system: a name, or FILE.py:FUNCTION.",
    shell_complete=names.BE_POLICIES,
)
SHARING_OPTION = click.option(
    "--sharing",
    metavar="RULE",
    help="Another sharing rule in the system: static, hrm, burst or ceres.",
    shell_complete=names.SHARING_RULES,
)


def part_options(function: _F) -> _F:
    """Decorator that adds the options which change a system's parts."""
    for option in (SHARING_OPTION, BE_OPTION, LC_OPTION):
        function = option(function)
    return function


def named_system(name: str, options: Mapping[str, Any]) -> System:
    """The system that is to decide live, with the parts that --lc, --be and --sharing replace. Raises: as `systems_of`."""
    from tango.settings import Settings
    from tango.systems import usable_system

    return usable_system(name, Settings(), lc=options["lc"], be=options["be"], sharing=options["sharing"])


def rule_options(function: _F) -> _F:
    """Decorator that adds the options changing a system's parts, the simulated world and parameters."""
    for option in reversed(
        (
            LC_OPTION,
            BE_OPTION,
            click.option(
                "--checkpoint",
                metavar="FILE|NAME|DIGEST",
                help="Another checkpoint of the learned BE policy: a file, or registered.",
            ),
            SHARING_OPTION,
            click.option("--beta", multiple=True, type=Real(min=0), help="Interference; default: the fleet's."),
            click.option("--staleness", multiple=True, type=Real(min=0), help="Age of remote state, s; default: the fleet's."),
            click.option("--window", type=Real(min=0.001), help="LC dispatch window, s.  [default: 0.1]"),
            click.option("--tick", type=Real(min=0.01), help="BE placement tick, s.  [default: 1]"),
            click.option("--mtbf", type=Real(min=0), help="Mean seconds between failures of a node; 0: none fails."),
            click.option("--mttr", type=Real(min=0), help="Mean seconds until a failed node is back."),
            click.option("--no-charge-decisions", is_flag=True, help="Let decisions take no simulated time."),
            click.option("--untuned", is_flag=True, help="Default parameters instead of those that `tango tune` found."),
            click.option(
                "--set",
                "changes",
                multiple=True,
                metavar="GROUP.NAME=VALUE",
                help="Any setting of lc, be, sharing, tenants or sim.",
            ),
        )
    ):
        function = option(function)
    return function


def workloads_of(traces: Sequence[str], options: Mapping[str, Any], *, resample: bool) -> list[Workload]:
    """The workloads that the traces and options describe, one for each --load.

    `resample` draws the arrivals of trace files anew for each seed; patterns are drawn anew in any case.
    Raises: UsageError for options that contradict each other; BadRows for files with bad rows.
    """
    from tango.traces.hotspots import Hotspots
    from tango.traces.trace_sources import notes_of
    from tango.traces.workload_defaults import workload_of
    from tango.traces.workloads import is_pattern

    common = workload_of(
        tuple(traces),
        tuple(options["be_trace"]),
        duration_s=options["duration"],
        load=next(iter(options["loads"]), None),
        from_s=options["from_s"],
        be_from_s=options["be_from_s"],
        resample=resample,
        lc_load_share=options["lc_load_share"],
        lc_map=map_of(options),
        be_map=map_of(options, "be_map"),
        hotspots=Hotspots(clusters=options["hotspots"], factor=options["hotspot_factor"]) if options["hotspots"] else None,
    )
    for source, map in dict.fromkeys(((common.lc, common.lc_map), (common.be, common.be_map))):
        say_notes(() if not source or is_pattern(source) else notes_of(source, map))
    return [dataclasses.replace(common, load=load) for load in options["loads"] or (common.load,)]


def fleet_text(name: str) -> str:
    """A fleet as a cell stores it: the name of a built-in fleet, else the text of the file, so that a worker elsewhere needs no file.

    Raises: UsageError for a fleet that does not exist; ConfigError for a file with mistakes.
    """
    from tango.fleets import fleet_text as declared

    return declared(name)


def require_folder(path: Path | None) -> None:
    """Raises: UsageError if the folder of `path` is missing; called before long work, not when its result is to be written."""
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.absolute().parent}")


def built_in_systems() -> str:
    """Every built-in system, in the form that `--systems` takes; a function, so that a help page need not import the registry."""
    from tango.systems import SYSTEMS

    return ",".join(SYSTEMS)


def systems_of(names: str, options: Mapping[str, Any]) -> tuple[System, ...]:
    """The systems of a comma-separated list, each once, with the parts that --lc, --be and --sharing replace.

    `LC/BE/SHARING` names a mix; LC and BE may each be `FILE.py:FUNCTION`. Raises: UsageError for an unknown name, an empty list, and a
    policy of the user's that cannot be loaded.
    """
    from tango.settings import Settings
    from tango.systems import usable_system

    parts = {kind: options[kind] for kind in ("lc", "be", "sharing")}
    found = [usable_system(name, Settings(), **parts) for name in filter(None, (part.strip() for part in names.split(",")))]
    if not found:
        raise UsageError("no system is named, expected one or more of: " + ", ".join(_known_systems()))
    return tuple(dict.fromkeys(found))


def variations_of(options: Mapping[str, Any]) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(label, {group: {setting: value}}) for each combination of the values of --beta and --staleness.

    Every entry contains what the other options change. Without --beta and --staleness there is one entry, with an empty label.
    Raises: UsageError for a --set that is not GROUP.NAME=VALUE.
    """
    common: dict[str, dict[str, Any]] = {}
    for name in ("window", "tick", "mtbf", "mttr"):
        if options[name] is not None:
            common.setdefault("sim", {})[SIM_FIELDS[name]] = float(options[name])
    if options["no_charge_decisions"]:
        common.setdefault("sim", {})["charge_decisions"] = False
    for change in options["changes"]:
        name, sign, text = change.partition("=")
        group, dot, field = name.strip().partition(".")
        if not (sign and dot and field):
            raise UsageError(f"--set {change!r}, expected GROUP.NAME=VALUE such as sharing.grow_below=0.2")
        common.setdefault(group, {})[field] = _value(text.strip())
    betas: Sequence[float | None] = options["beta"] or (None,)
    ages: Sequence[float | None] = options["staleness"] or (None,)
    found = []
    for beta, age in itertools.product(betas, ages):
        sim = dict(common.get("sim", {}))
        label = []
        if beta is not None:
            sim["beta"] = beta
            label.append(f"beta={beta:g}")
        if age is not None:
            sim["staleness_s"] = age
            label.append(f"staleness={age:g}s")
        changed = {**common, "sim": sim} if sim else common
        found.append((" ".join(label), {group: dict(values) for group, values in changed.items()}))
    return found


def _value(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _known_systems() -> tuple[str, ...]:
    from tango.systems import SYSTEMS

    return tuple(SYSTEMS)
