"""Documents as a new user types them: their command blocks, in one shell, with the commands of this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.live_stack import ROOT, LiveStack


def blocks(text: str) -> list[str]:
    """The indented blocks of a document, as they are typed."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("    ") or (not line.strip() and found[-1]):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(block).rstrip() + "\n" for block in found if block]


def typed(commands: str, folder: Path, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run them in an empty `folder`, with a home and a stack of its own, to the first that fails. The stack is stopped at the end."""
    stack = LiveStack(folder / "home")
    programs = folder / "bin"
    programs.mkdir()
    tango = programs / "tango"
    tango.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from tango.cli.main import run; run()" "$@"\n')
    tango.chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    # The environment is active already; documents say how.
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
    environment |= {
        "HOME": str(folder),
        "TANGO_HOME": str(stack.home),
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    try:
        return subprocess.run(
            ["bash", "-c", "set -eu\n" + commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    finally:
        if (stack.home / "stack.json").exists():
            stack.stop()
