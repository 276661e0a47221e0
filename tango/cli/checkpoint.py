"""`tango checkpoint`: register learned checkpoints, choose the live one and the one in the shadow, and score candidates."""

from __future__ import annotations

import dataclasses
import getpass
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.checkpoint_files import checkpoint_file, looks_like_a_file
from tango.cli.confirm import dry_run_option, would
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say, share
from tango.domain.checkpoints import LEARNED_BE, SHORT
from tango.domain.seeds import COMPARISON
from tango.errors import CheckpointError, DependencyError, RequestRejected, UsageError

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult
    from tango.domain.checkpoints import CheckpointRoles, StoredCheckpoint
    from tango.experiments.cells import Cell
    from tango.store.checkpoints import PostgresCheckpointStore

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A name goes into tables, commands and rows of decisions."""
_NEXT = {
    "dcg-be": "; `tango checkpoint promote {}` lets it decide",
    "gnn-sac": "; `tango checkpoint shadow {}` lets it decide beside the live one",
}
"""By policy: the next step, as `add` prints it after a registration; `{}` is the digest."""

LIST_COLUMNS = (
    ListColumn("name", priority=10),
    ListColumn("digest", priority=10, show=lambda digest: str(digest)[:SHORT]),
    ListColumn("policy", priority=8),
    ListColumn("role", priority=10),
    ListColumn("state", priority=9),
    ListColumn("score", title="to load-greedy", priority=7),
    ListColumn("trained", priority=4, show=lambda trained: _trained(trained)),
    ListColumn("registered_at", priority=5, show=lambda at: f"{at:%Y-%m-%d %H:%M}"),
    ListColumn("size_bytes", title="bytes", justify="right", wide=True),
    ListColumn("code_version", wide=True),
    ListColumn("feature_schema", wide=True, show=lambda schema: str(schema)[:SHORT]),
    ListColumn("format_version", title="format", justify="right", wide=True),
    ListColumn("path", wide=True),
    ListColumn("note", wide=True),
)
SHADOW_COLUMNS = (
    ListColumn("live", title="beside", priority=10),
    ListColumn("policy", priority=8),
    ListColumn("ticks", justify="right", priority=9),
    ListColumn("skipped", justify="right", priority=8),
    ListColumn("considered", justify="right", priority=7),
    ListColumn("different", justify="right", priority=10),
    ListColumn("share_different", title="share", show=share, justify="right", priority=9),
    ListColumn("live_placed", justify="right", priority=6),
    ListColumn("candidate_placed", title="its own", justify="right", priority=6),
    ListColumn("live_cpu_share", title="CPU share", show=share, justify="right", priority=7),
    ListColumn("candidate_cpu_share", title="its own share", show=share, justify="right", priority=7),
    ListColumn("live_ms", title="ms", justify="right", priority=5),
    ListColumn("candidate_ms", title="its own ms", justify="right", priority=5),
)
HISTORY_COLUMNS = (
    ListColumn("at", show=lambda at: f"{at:%Y-%m-%d %H:%M:%S}"),
    ListColumn("action"),
    ListColumn("digest", show=lambda digest: str(digest)[:SHORT] or "own file"),
    ListColumn("before", show=lambda digest: str(digest)[:SHORT]),
    ListColumn("actor", title="by"),
    ListColumn("note"),
)
SCORE_COLUMNS = (
    ListColumn("scenario", priority=10),
    ListColumn("figure", priority=10),
    ListColumn("candidate", justify="right", priority=10),
    ListColumn("greedy", title="load-greedy", justify="right", priority=7),
    ListColumn("to_greedy", title="difference", justify="right", priority=9),
    ListColumn("shipped", justify="right", priority=6),
    ListColumn("to_shipped", title="difference", justify="right", priority=8),
)


def _store() -> PostgresCheckpointStore:
    from tango.bootstrap.stores import stores

    return stores().checkpoints


@click.group()
def checkpoint() -> None:
    """Register learned checkpoints, promote them into the running system, try candidates, and score them.

    \b
        tango checkpoint add my.ckpt --name my
        tango checkpoint evaluate my --fleet testbed
        tango checkpoint promote my
    """


@checkpoint.command(name="list")
@output_option()
def list_checkpoints(output: str) -> None:
    """List the registered checkpoints: how each was trained, its latest score, and which one is live or in the shadow.

    \b
        tango checkpoint list
    """
    store = _store()
    roles = store.roles()
    rows = [_row(c, roles) for c in store.registered()]
    print_rows(rows, LIST_COLUMNS, output, empty="No checkpoint is registered; `tango checkpoint add FILE` registers one.")


@checkpoint.command()
@click.argument("named", metavar="NAME|DIGEST", shell_complete=names.CHECKPOINTS)
@output_option()
def show(named: str, output: str) -> None:
    """Show all about a checkpoint: training configuration, code version, feature schema, scores, roles, what it did in the shadow.

    \b
        tango checkpoint show my
    """
    store = _store()
    found = store.find(named)
    row = _row(found, store.roles())
    history = [event for event in store.history(limit=1000) if found.digest in (event.digest, event.before)]
    shadow = store.shadow_summaries(found.digest)
    if output in ("json", "yaml"):
        print_mapping({**row, "scores": found.scores, "history": history, "shadow": shadow}, output)
        return
    row.pop("score")
    trained = row.pop("trained")
    print_mapping({**row, **{f"trained.{key}": value for key, value in trained.items()}}, output)
    for entry in found.scores:
        print()
        _show_scores(entry, output)
    if shadow:
        print()
        print_rows([_plain(summary) for summary in shadow], SHADOW_COLUMNS, output)
    if history:
        print()
        print_rows([_plain(event) for event in history[:20]], HISTORY_COLUMNS, output)


@checkpoint.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="A name to find it by; default: the one in the file.")
@click.option("--note", default="", help="Free text, such as where the checkpoint comes from.")
@output_option()
def add(file: Path, name: str | None, note: str, output: str) -> None:
    """Register FILE: its bytes are copied into the store, so that a scheduler on another host can use it.

    \b
        tango checkpoint add my.ckpt --name my --note "two hours, seed 3"
    """
    from tango.control.checkpoints import register_checkpoint

    if name is not None and not NAME.fullmatch(name):
        raise UsageError(f"--name is {name!r}, expected 1 to 63 letters, digits, '.', '_' and '-', the first a letter or a digit")
    store = _store()
    called = {c.digest: c.name for c in store.registered()}
    try:
        stored = register_checkpoint(file, store=store, name=name, note=note)
    except CheckpointError as error:
        raise RequestRejected(str(error)) from error
    if (before := called.get(stored.digest, stored.name)) != stored.name:
        say(f"this file was registered as {before}; its name is {stored.name} from now on")
    if others := [digest[:SHORT] for digest, other in called.items() if other == stored.name and digest != stored.digest]:
        say(f"warning: {', '.join(others)} has the same name; say which one you mean by its digest")
    say(f"registered {stored.name} ({stored.digest[:SHORT]}){_NEXT.get(stored.policy, '').format(stored.digest[:SHORT])}")
    _show_one(stored, store.roles(), output)


@checkpoint.command()
@click.argument("named", metavar="NAME|DIGEST", shell_complete=names.CHECKPOINTS)
@click.option("--force", is_flag=True, help="Also one that is known to place worse than load-greedy.")
@dry_run_option
@output_option()
def promote(named: str, force: bool, dry_run: bool, output: str) -> None:
    """Make a checkpoint live: the running scheduler decides by it from its next tick on.

    Refused where its latest evaluation, or else the validation of its training, lies below load-greedy by more than the interval.

    \b
        tango checkpoint promote my --dry-run
        tango checkpoint promote my
    """
    from tango.control.checkpoints import gain_of, promotable
    from tango.control.checkpoints import promote as promote_checkpoint

    store = _store()
    if dry_run:
        found, roles = promotable(named, store=store, force=force), store.roles()
    else:
        found, roles = promote_checkpoint(named, store=store, actor=_actor(), force=force)
    known = gain_of(found)
    if known is None:
        say(f"warning: nothing is known of how well it places; `tango checkpoint evaluate {found.digest[:SHORT]}` finds out")
    elif known.gain - known.margin <= 0:
        say(f"warning: it is not known to be better than {known.reference}: {known}")
    if dry_run:
        before = f"{roles.live[:SHORT]}" if roles.live else "the scheduler's own file"
        would(f"let {found.name} ({found.digest[:SHORT]}) decide in place of {before}")
        return
    say(f"{found.name} ({found.digest[:SHORT]}) decides from the scheduler's next tick on; `tango checkpoint demote` takes it back")
    _show_one(found, roles, output)


@checkpoint.command()
@output_option()
def demote(output: str) -> None:
    """Go back to the checkpoint that was live before, in the end to the scheduler's own file.

    \b
        tango checkpoint demote
    """
    store = _store()
    before = store.roles()
    if not before.live:
        raise UsageError("no checkpoint is promoted: the scheduler's own file decides (TANGO_CHECKPOINT, else the shipped one)")
    roles = store.demote(actor=_actor())
    known = {c.digest: c for c in store.registered()}
    now = known.get(roles.live or roles.configured)
    what = f"{now.name} ({now.digest[:SHORT]})" if now else "the scheduler's own file"
    say(f"{what} decides from the scheduler's next tick on, in place of {before.live[:SHORT]}")
    if now:
        _show_one(now, roles, output)
    else:
        print_mapping({"role": "live", "digest": roles.live or None}, output)


@checkpoint.command()
@click.argument("named", metavar="NAME|DIGEST", required=False, shell_complete=names.CHECKPOINTS)
@click.option("--off", is_flag=True, help="End the shadow: no candidate decides beside the live policy any more.")
@output_option()
def shadow(named: str | None, off: bool, output: str) -> None:
    """Let a candidate decide beside the live policy. Its plans are not carried out; how they differ is recorded for each tick.

    \b
        tango checkpoint shadow my
        tango sql "SELECT * FROM shadow_summary"
        tango checkpoint shadow --off
    """
    from tango.control.checkpoints import shadow as shadow_checkpoint

    if (named is None) != off:
        raise UsageError("give a NAME or DIGEST to begin, or --off to end")
    store = _store()
    if named is None:
        before = store.roles().shadow
        store.shadow("", actor=_actor())
        say(f"{before[:SHORT]} is no shadow any more" if before else "nothing was in the shadow")
        print_mapping({"role": "shadow", "digest": None, "before": before or None}, output)
        return
    found, roles = shadow_checkpoint(named, store=store, actor=_actor())
    say(
        f"{found.name} ({found.digest[:SHORT]}) decides in the shadow from the next tick on; `tango checkpoint show` tells how it differs"
    )
    _show_one(found, roles, output)


@checkpoint.command()
@click.argument("named", metavar="NAME|DIGEST|FILE", shell_complete=names.CHECKPOINTS_OR_FILES)
@click.option(
    "--fleet", "fleet_name", default="testbed", show_default=True, help="Fleet (name or file).", shell_complete=names.FLEETS
)
@click.option(
    "--pattern",
    "patterns",
    default="p1,p2,p3",
    show_default=True,
    help="Workloads, separated by commas.",
    shell_complete=names.PATTERN_LISTS,
)
@click.option("--load", "loads", default="0.8", show_default=True, help="Offered loads of each, separated by commas.")
@click.option("--duration", type=Real(min=1), default=120.0, show_default=True, help="Seconds of arrivals.")
@click.option("--seeds", type=Whole(min=1), default=5, show_default=True, help="How many seeds.")
@click.option("--first-seed", type=Whole(min=0), default=COMPARISON.start, show_default=True, help="The first of them.")
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes.")
@click.option("--fresh", is_flag=True, help="Simulate again what was finished before.")
@output_option()
def evaluate(named: str, output: str, **options: Any) -> None:
    """Simulate a checkpoint beside `load-greedy` placement and the shipped checkpoint, paired by seed, and keep the scores.

    Same LC policy, sharing rule, parameters and requests: who places BE is all that differs. Intervals are 95 % over seeds. The scores
    of a registered checkpoint go into the registry when the store answers.

    \b
        tango checkpoint evaluate my.ckpt --fleet testbed --load 0.8,1.0 --seeds 5 -j 2
    """
    file = checkpoint_file(named)
    if file.policy not in LEARNED_BE:
        raise UsageError(f"{named} is of policy {file.policy!r}, expected one that places BE: {', '.join(LEARNED_BE)}")
    results = _simulated(_cells(file, options), options)

    from tango.experiments.checkpoint_scores import scores_of

    scores = scores_of(results, command=shlex.join(["tango", *sys.argv[1:]]))
    kept = _keep_scores(file.digest, scores, required=not looks_like_a_file(named))
    if output in ("json", "yaml"):
        print_mapping({"digest": file.digest, "policy": file.policy, "kept": kept, **scores}, output)
        return
    for note in scores["notes"]:
        say(f"note: {note}")
    _show_scores(scores, output)


# ---- evaluation ------------------------------------------------------------------------------------------------------------------


def _cells(file: Any, options: Mapping[str, Any]) -> list[Cell]:
    from tango.cli.workloads import fleet_text
    from tango.experiments.checkpoint_scores import cells_to_score
    from tango.traces.generators import PATTERNS
    from tango.traces.workloads import Workload

    patterns = [name.strip() for name in options["patterns"].split(",") if name.strip()]
    for name in patterns:
        if name not in PATTERNS:
            raise UsageError(f"--pattern has {name!r}, expected some of {', '.join(PATTERNS)}")
    workloads = [
        Workload(lc=(pattern,), be=(pattern,), duration_s=options["duration"], load=load)
        for pattern in patterns
        for load in _loads(options["loads"])
    ]
    if not workloads:
        raise UsageError(f"--pattern is {options['patterns']!r}, expected some of {', '.join(PATTERNS)}")
    seeds = range(options["first_seed"], options["first_seed"] + options["seeds"])
    return cells_to_score(file, workloads, fleet_text(options["fleet_name"]), seeds, {})


def _loads(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--load has {text!r}, expected numbers separated by commas") from error
    if not all(0 < load < 100 for load in found):
        raise UsageError(f"--load has {text!r}, expected numbers above 0 and below 100")
    return found


def _simulated(cells: Sequence[Cell], options: Mapping[str, Any]) -> list[CellResult]:
    from tango.cli.progress import progress, slow_start
    from tango.cli.simulate import COMPILING
    from tango.cli.sweep_folder import kept_results
    from tango.experiments.sweeps import run_cells

    with progress("Simulating", total=len(cells), unit="cells") as advance, slow_start(COMPILING, after_s=20.0) as moving:

        def done(_cell: Cell, _result: CellResult, _was_kept: bool) -> None:
            moving()
            advance(1)

        return run_cells(cells, processes=options["jobs"], kept=kept_results(fresh=options["fresh"]), done=done)


def _keep_scores(digest: str, scores: Mapping[str, Any], *, required: bool) -> bool:
    """Write the scores to the registry; return whether it has them. For a file that is not registered they are only printed.

    Raises: DependencyError if the store does not answer and `required`, that is, if the checkpoint came from the registry.
    """
    try:
        store = _store()
        if all(c.digest != digest for c in store.registered()):
            say("the file is not registered, so its scores are only printed; `tango checkpoint add FILE` registers it")
            return False
        store.add_scores(digest, scores)
    except DependencyError as error:
        if required:
            raise
        say(f"the scores are only printed: {error}")
        return False
    return True


def _show_scores(entry: Mapping[str, Any], output: str) -> None:
    """Print one evaluation as a table; one that `tango checkpoint evaluate` did not write is printed as names and values."""
    rows = entry.get("rows")
    if entry.get("kind") != "simulated" or not isinstance(rows, list):
        print_mapping({f"score.{key}": value for key, value in entry.items()}, output)
        return
    from tango.analysis.compared_metrics import METRICS

    metrics = {metric.name: metric for metric in METRICS}
    shown = []
    for row in rows:
        metric = metrics.get(row["figure"])
        if metric is None:
            continue
        texts = {"scenario": row["scenario"], "figure": metric.title, "candidate": metric.show(row["value"])}
        for name, key in (("load-greedy", "greedy"), ("shipped", "shipped")):
            to = row["differences"].get(name, {})
            half = None if to.get("high") is None else to["high"] - to["mean"]
            texts[key] = metric.show(to.get("value"))
            texts[f"to_{key}"] = metric.show_difference(to.get("mean"), half)
        shown.append(texts)
    print_rows(shown, SCORE_COLUMNS, output)
    seeds = entry.get("seeds", [])
    say(f"{len(seeds)} seeds from {min(seeds, default=0)} on {entry.get('fleet')}, {entry.get('at')}")


# ---- rows ------------------------------------------------------------------------------------------------------------------------


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def _row(found: StoredCheckpoint, roles: CheckpointRoles) -> dict[str, Any]:
    """A checkpoint as a row of listings. Scripts depend on the keys: they are only ever added to."""
    from tango.control.checkpoints import gain_of

    gain = gain_of(found)
    return {
        "name": found.name,
        "digest": found.digest,
        "policy": found.policy,
        "role": roles.of(found.digest),
        "state": _state(found, roles),
        "score": str(gain) if gain else "",
        "trained": found.trained,
        "registered_at": found.registered_at,
        "size_bytes": found.size_bytes,
        "code_version": found.code_version,
        "feature_schema": found.feature_schema,
        "format_version": found.format_version,
        "path": found.path,
        "note": found.note,
        "deciding": bool(roles.deciding) and roles.deciding == found.digest,
        "refused": found.refused or None,
        "refused_at": found.refused_at,
    }


def _state(found: StoredCheckpoint, roles: CheckpointRoles) -> str:
    """Whether the scheduler refused it, decides by it, or has not loaded it yet; empty for any other checkpoint."""
    if found.refused:
        return f"refused: {found.refused}"
    if roles.deciding and roles.deciding == found.digest:
        return "decides"
    return "waits for the scheduler" if roles.live == found.digest else ""


def _trained(trained: object) -> str:
    """The first four plain values of a training configuration as text, for a column of a table."""
    if not isinstance(trained, Mapping):
        return ""
    plain = [(k, v) for k, v in trained.items() if isinstance(v, (str, int, float)) and k != "code_version"]
    return ", ".join(f"{k} {v}" for k, v in plain[:4])


def _show_one(found: StoredCheckpoint, roles: CheckpointRoles, output: str) -> None:
    row = _row(found, roles)
    if output in ("json", "yaml"):
        print_mapping(row, output)
    else:
        print_rows([row], LIST_COLUMNS, output)


def _plain(record: Any) -> dict[str, Any]:
    return dataclasses.asdict(record)
