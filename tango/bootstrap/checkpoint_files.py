"""Registered checkpoints as files on this host: `checkpoints/DIGEST.pt` in the state folder."""

from __future__ import annotations

import os
from pathlib import Path

from tango.domain.checkpoints import CheckpointFile
from tango.files import write_whole
from tango.ports.checkpoints import CheckpointStore
from tango.stack.state import private_folder, state_home


def file_here(digest: str, policy: str, store: CheckpointStore) -> CheckpointFile:
    """The file of a registered checkpoint, copied from the store unless it is here with the right content.

    Raises: CheckpointError for one that is not registered, StoreUnavailable, FileUnusable if there is no space for it.
    """
    folder = private_folder(state_home(os.environ) / "checkpoints")
    found = CheckpointFile(path=str(folder / f"{digest}.pt"), digest=digest, policy=policy)
    if found.changed():
        # Several simulators of this host may copy one checkpoint at once.
        write_whole(Path(found.path), store.content(digest))
    return found
