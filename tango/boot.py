"""Which boot of the kernel this is: after another one, a loss of power may have come in between."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Drawn by the kernel at each boot, the same in all containers of a host."""


def boot_id() -> str:
    """The id of this boot. Raises: OSError where the kernel does not tell it."""
    return BOOT_ID.read_text(encoding="utf-8").strip()
