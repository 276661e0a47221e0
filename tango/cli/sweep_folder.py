"""Where finished cells are kept: `sweeps/` in the state folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tango.experiments.sweeps import KeptResults


def kept_results(*, fresh: bool) -> KeptResults:
    """The folder of finished cells; `fresh` finds none in it and keeps new ones all the same."""
    from tango.experiments.sweeps import KeptResults
    from tango.stack.state import private_folder, state_home

    return KeptResults(private_folder(state_home(os.environ)) / "sweeps", forget=fresh)
