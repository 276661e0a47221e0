"""Finding the checkpoint that an option names: a file, or a registered checkpoint by name or digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tango.errors import CheckpointError, DependencyError, RequestRejected, UsageError

if TYPE_CHECKING:
    from tango.domain.checkpoints import CheckpointFile
    from tango.systems import System


def looks_like_a_file(named: str) -> bool:
    """Whether the text means a path: it has a slash, ends in `.pt` or is a file here; else it is a name or a digest."""
    return "/" in named or named.endswith(".pt") or Path(named).is_file()


# Cached, because a comparison asks for the same name once for each of its systems, and reading a checkpoint imports torch.
@lru_cache(maxsize=8)
def checkpoint_file(named: str) -> CheckpointFile:
    """The file that FILE, NAME or DIGEST means, after reading it once to see that it can be used.

    Raises: UsageError where neither a file nor a registry has it; RequestRejected for a damaged or foreign checkpoint;
    DependencyError if the registry does not answer.
    """
    from tango.domain.checkpoints import CheckpointFile
    from tango.systems import read_checkpoint

    try:
        if looks_like_a_file(named):
            found = read_checkpoint(named)
            return CheckpointFile(path=found.path, digest=found.digest, policy=found.policy)
        from tango.bootstrap.checkpoint_files import file_here
        from tango.bootstrap.stores import stores

        try:
            store = stores().checkpoints
        except DependencyError as error:
            raise UsageError(
                f"there is no file {named!r}, and no registry to look for a checkpoint of this name: {error}"
            ) from error
        stored = store.find(named)
        here = file_here(stored.digest, stored.policy, store)
        read_checkpoint(here.path)
        return here
    except CheckpointError as error:
        raise RequestRejected(str(error)) from error


def checkpoints_of(systems: Sequence[System], options: Mapping[str, Any]) -> dict[str, CheckpointFile]:
    """The file of --checkpoint by system name, for the systems whose BE policy it belongs to; empty without the option.

    Raises: UsageError if none of the systems has that policy; else as `checkpoint_file`.
    """
    if not options.get("checkpoint"):
        return {}
    found = checkpoint_file(options["checkpoint"])
    users = {system.name: found for system in systems if system.be == found.policy}
    if not users:
        raise UsageError(
            f"--checkpoint {options['checkpoint']} is of policy {found.policy!r}, by which none of these systems places BE: "
            f"{', '.join(f'{s.name} ({s.be})' for s in systems)}"
        )
    return users
