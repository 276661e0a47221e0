"""What the commands that submit runs need."""

from __future__ import annotations

from tango.bootstrap.stores import Stores
from tango.control.submit import Submission
from tango.ports.messages import Publisher


def submission_of(here: Stores, publisher: Publisher) -> Submission:
    """The submission of runs to this stack."""
    return Submission(
        runs=here.runs, fleet=here.fleet, cluster_names=lambda: [row.name for row in here.fleet.clusters()], publisher=publisher
    )
