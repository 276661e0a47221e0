"""`tango report`: write a run's figures and charts as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.confirm import force_option, require_free_page
from tango.cli.workloads import require_folder
from tango.files import made_folder, write_whole


@click.command()
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Default: the state folder's reports."
)
@force_option
def report(run_id: int, out: Path | None, force: bool) -> None:
    """Write the report of a RUN as one self-contained HTML page. An older page of Tango's is replaced.

    \b
        tango report 3 -o report.html
    """
    require_folder(out)
    require_free_page(out, force)
    click.echo(str(write_report(run_id, out)))


def write_report(run_id: int, out: Path | None) -> Path:
    """Render the page and write it to `out`, else to the state folder; return its path. Raises: UsageError for an unknown run,
    FileUnusable."""
    from tango.bootstrap.environment import default_home
    from tango.bootstrap.stores import stores
    from tango.control.finish_run import figures_now
    from tango.report import render_report

    # Figures are computed anew and not read as saved, so that a run can be looked at while it goes on.
    here = stores()
    records = here.records
    page = render_report(
        records.outcomes(run_id),
        records.losses(run_id),
        records.node_samples(run_id),
        records.decisions(run_id),
        records.scaling_events(run_id),
        figures_now(run_id, records=records),
        phases=records.phases(run_id),
        saturated_share=here.settings.host.saturated_share,
    )
    path = out or default_home() / "reports" / f"run-{run_id}.html"
    made_folder(path.parent)
    write_whole(path, page)
    return path
