"""Where the results of finished cells are kept between commands: the folder `sweeps/` of the state folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tango.experiments.sweeps import KeptResults


def kept_results(*, fresh: bool) -> KeptResults:
    """The kept results. With `fresh` none of the old ones is used, and new ones replace them."""
    from tango.experiments.sweeps import KeptResults
    from tango.stack.state import private_folder, state_home

    return KeptResults(private_folder(state_home(os.environ)) / "sweeps", forget=fresh)
