"""`tango tune`: search the parameters of every system by one procedure, with as many evaluations for each."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.confirm import force_option, require_free
from tango.cli.output import ListColumn, output_option, print_rows, say, share
from tango.cli.progress import progress
from tango.cli.workloads import built_in_systems
from tango.errors import UsageError
from tango.files import write_whole

if TYPE_CHECKING:
    from tango.experiments.tuning import Candidate

COLUMNS = (
    ListColumn("system", priority=10),
    ListColumn("evaluations", justify="right", priority=7),
    ListColumn("score", justify="right", priority=9),
    ListColumn("default_score", title="by default", justify="right", priority=8),
    ListColumn("lc_qos_rate", title="QoS rate", show=share, justify="right", priority=6),
    ListColumn("be_share_of_bound", title="BE of bound", show=share, justify="right", priority=6),
    ListColumn("settings", priority=5),
)


def _load(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--loads has {text!r}, expected numbers separated by commas") from error


@click.command()
@click.option(
    "--systems",
    default=built_in_systems,
    show_default="all built-in systems",
    help="Which ones.",
    shell_complete=names.SYSTEM_LISTS,
)
@click.option(
    "--fleets", default="testbed,paper", show_default=True, help="Fleets (names or files).", shell_complete=names.FLEET_LISTS
)
@click.option("--patterns", default="p1,p2,p3", show_default=True, help="Workloads.", shell_complete=names.PATTERN_LISTS)
@click.option("--loads", default="0.8,1.0", show_default=True, help="Offered loads of each pattern.")
@click.option("--duration", type=Real(min=10), default=90.0, show_default=True, help="Seconds of arrivals.")
@click.option("--seeds", type=Whole(min=1), default=1, show_default=True, help="Training seeds, from 1 on.")
@click.option("--evaluations", type=Whole(min=1), default=16, show_default=True, help="Choices tried for each system.")
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write what was found here.")
@force_option
@output_option()
def tune(
    systems: str, fleets: str, evaluations: int, jobs: int, out: Path | None, force: bool, output: str, **options: Any
) -> None:
    """Search the parameters of systems on training seeds, with the same number of evaluations for each.

    \b
        tango tune --systems load-greedy,scoring --fleets testbed --evaluations 20 -j 2 --out tuned.json
    """
    from tango.cli.sweep_folder import kept_results
    from tango.cli.workloads import fleet_text, require_folder, systems_of
    from tango.experiments.sweeps import run_cells
    from tango.experiments.tuning import TRAINING_SEEDS, candidates, cells_for, dump_tuned, ranking
    from tango.traces.workloads import Workload

    require_folder(out)
    require_free(out, force)
    texts = [fleet_text(name.strip()) for name in fleets.split(",")]
    workloads = [
        Workload(lc=(pattern.strip(),), be=(pattern.strip(),), duration_s=options["duration"], load=_load(load))
        for pattern in options["patterns"].split(",")
        for load in options["loads"].split(",")
    ]
    seeds = list(TRAINING_SEEDS[: options["seeds"]])
    found: dict[str, Candidate] = {}
    rows = []
    # One system after the other: a search that is interrupted has whole systems finished, and its cells are kept for the next try.
    for system in systems_of(systems, {"lc": None, "be": None, "sharing": None}):
        choices = candidates(system, evaluations)
        cells = cells_for(system, choices, workloads, texts, seeds)
        with progress(f"Tuning {system.name}", total=len(cells), unit="cells") as advance:
            kept = kept_results(fresh=False)
            results = run_cells(cells, processes=jobs, kept=kept, done=lambda *_, advance=advance: advance(1))
        ranked = ranking(choices, results)
        default = next(c for c in ranked if not c.settings)  # among the choices, so that a search never ends below the defaults
        found[system.name] = ranked[0]
        rows.append(
            {
                "system": system.name,
                "evaluations": len(choices),
                "score": ranked[0].score,
                "default_score": default.score,
                "lc_qos_rate": ranked[0].lc_qos_rate,
                "be_share_of_bound": ranked[0].be_share_of_bound,
                "settings": ranked[0].settings,
            }
        )
    if out is not None:
        write_whole(out, dump_tuned(found, command=shlex.join(["tango", *sys.argv[1:]])))
        say(f"written to {out}")
    print_rows(rows, COLUMNS, output)
