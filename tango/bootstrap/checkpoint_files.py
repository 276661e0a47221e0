"""Registered checkpoints as files on this host: `checkpoints/DIGEST.pt` in the state folder."""

from __future__ import annotations

import os
from pathlib import Path

from tango.domain.checkpoints import CheckpointFile
from tango.ports.checkpoints import CheckpointStore
from tango.stack.state import private_folder, state_home


def file_here(digest: str, policy: str, store: CheckpointStore) -> CheckpointFile:
    """The file of a registered checkpoint, copied from the store unless it is here with the right content.

    Raises: CheckpointError for one that is not registered, StoreUnavailable, OSError if the file cannot be written.
    """
    folder = private_folder(state_home(os.environ) / "checkpoints")
    found = CheckpointFile(path=str(folder / f"{digest}.pt"), digest=digest, policy=policy)
    if found.changed():
        content = store.content(digest)
        # Written aside and renamed, since several simulators of this host may copy one checkpoint at once.
        fresh = folder / f".{digest}.{os.getpid()}"
        fresh.write_bytes(content)
        fresh.replace(Path(found.path))
    return found
