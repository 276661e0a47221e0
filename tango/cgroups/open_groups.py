"""A group that is looked at again and again: its files stay open, and a look is one system call for each.

Opening a file of the kernel's costs several times what reading it does, most of it in Python's paths. A descriptor keeps no group alive:
once the group is gone, a read fails as it would by name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from tango.cgroups.groups import MEMORY_IN_USE, CpuAccount, Group, Pressure, cpu_account, knob_value, pressure_of
from tango.cgroups.knobs import FILES, Knob

LONGEST = 4096
"""Bytes of such a file: a page, which is what the kernel makes of most of them at once."""


class OpenFile:
    """A file that the kernel writes anew for each reader. It is opened when it is first read."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def text(self) -> str:
        """What it says now. Raises: OSError if it is not there, or its group is gone."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._descriptor, LONGEST, 0).decode()

    def close(self) -> None:
        """Give the descriptor back; the next read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close


class OpenGroup:
    """What the kernel has accounted of a group, as `Group` tells it. A file that this kernel does not have is not asked for again."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._version = group.hierarchy.version
        self._files: dict[str, OpenFile] = {}
        self._missing: set[str] = set()

    def cpu(self) -> CpuAccount:
        """Raises: OSError if the group is gone."""
        return cpu_account(self._text("cpu.stat"), self._text("cpuacct.usage") if self._version == 1 else "")

    def memory_bytes(self) -> int:
        """Memory in use. Raises: OSError if the group is gone."""
        return int(self._text(MEMORY_IN_USE[self._version]))

    def pressure(self, resource: str) -> Pressure | None:
        """Pressure stall information of `cpu` or `memory`; None where the kernel does not tell it."""
        name = f"{resource}.pressure"
        if self._version == 1 or name in self._missing:
            return None
        try:
            return pressure_of(self._text(name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                self._missing.add(name)
            return None

    def read(self, knob: Knob) -> int | None:
        """What is set; None: no limit. Raises: OSError if the group is gone."""
        return knob_value(knob, self._text(FILES[self._version][knob]))

    def close(self) -> None:
        """Give its descriptors back."""
        with contextlib.suppress(OSError):
            for file in self._files.values():
                file.close()

    def _text(self, name: str) -> str:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = OpenFile(self.group.account(name))
        return file.text()
