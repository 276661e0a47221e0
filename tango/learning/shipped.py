"""Where the checkpoints lie that come with Tango; apart from the code that reads them, which needs torch."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def shipped_path(policy: str = "dcg-be") -> Path:
    """The checkpoint of a policy that comes with Tango."""
    return Path(str(resources.files("tango.learning") / "data" / f"{policy}.pt"))
