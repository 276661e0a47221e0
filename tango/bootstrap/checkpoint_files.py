"""Registered checkpoints as files of this host: `checkpoints/` in the state folder, by digest."""

from __future__ import annotations

import os
from pathlib import Path

from tango.domain.checkpoints import CheckpointFile
from tango.ports import CheckpointStore
from tango.stack.state import private_folder, state_home


def file_here(digest: str, policy: str, store: CheckpointStore) -> CheckpointFile:
    """The file of a registered checkpoint, copied from the store unless it is here. Raises: CheckpointError, StoreUnavailable."""
    folder = private_folder(state_home(os.environ) / "checkpoints")
    found = CheckpointFile(path=str(folder / f"{digest}.pt"), digest=digest, policy=policy)
    if found.changed():
        content = store.content(digest)
        fresh = folder / f".{digest}.{os.getpid()}"
        fresh.write_bytes(content)
        fresh.replace(Path(found.path))
    return found
