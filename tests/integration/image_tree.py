"""The images, built, and programs run from their trees as a container engine would: chroot, read-only root, the image's user, no more.

No engine is needed: each program gets a mount namespace of its own, in which the tree is read-only and /tmp, /run/tango and /var/lib/tango
are what a pod has there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tango.stack.tether import tethered

ROOT = Path(__file__).parents[2]
USER = 10001
BUILT_WITHIN_S = 3000.0
INSIDE = """
set -e
tree=$1 data=$2 health=$3; shift 3
mount --make-rprivate /
mount --bind "$tree" "$tree" && mount -o remount,bind,ro "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
if [ -d "$tree/run/tango" ]; then mount --bind "$data" "$tree/var/lib/tango"; mount --bind "$health" "$tree/run/tango"; fi
exec chroot --userspec=10001:10001 --groups= "$tree" /usr/bin/env -i "$@"
"""


def why_not() -> str:
    """Why the images cannot be built on this machine; empty where they can."""
    missing = [tool for tool in ("buildah", "mmdebstrap", "unshare", "git", "gzip") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        return "images are built by root alone"
    if missing:
        return f"missing: {', '.join(missing)}"
    probe = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
    return f"nothing can be mounted here: {probe.stderr.strip()}" if probe.returncode else ""


def build(out: Path) -> None:
    """Build both into a folder, as whoever releases Tango does. Raises: CalledProcessError with what was said in `stderr`."""
    command = [str(ROOT / "deploy/image/build.sh"), str(out)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILT_WITHIN_S)


@dataclass(slots=True)
class Image:
    """An image of the last build, with its tree mounted between `open` and `close`."""

    name: str
    tag: str
    tree: Path = Path()
    _container: str = ""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def open(self) -> None:
        """Mount the tree."""
        self._container = self._buildah("from", f"localhost/{self.name}:{self.tag}")
        self.tree = Path(self._buildah("mount", self._container))

    def close(self) -> None:
        """End all processes and unmount it."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._buildah("rm", self._container)

    def facts(self) -> dict[str, Any]:
        """What the image says of itself: user, entry point, labels, health check."""
        found: dict[str, Any] = json.loads(self._buildah("inspect", "--type", "image", f"localhost/{self.name}:{self.tag}"))[
            "Docker"
        ]
        return found

    def command(self, words: Sequence[str], *, data: Path, variables: Mapping[str, str]) -> list[str]:
        """The command line that runs a program of the tree; `data` is its /var/lib/tango."""
        health = data / "health"
        for folder in (data, health):
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, USER, USER)
        told = dict(pair.split("=", 1) for pair in self.facts()["config"]["Env"]) | variables
        environment = [f"{name}={value}" for name, value in told.items()]
        return ["unshare", "--mount", "sh", "-c", INSIDE, "sh", str(self.tree), str(data), str(health), *environment, *words]

    def run(self, *words: str, data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the tree to its end."""
        command = self.command(words, data=data, variables=variables)
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def begin(self, name: str, *words: str, data: Path, **variables: str) -> None:
        """Start one that runs until `close`; its log is `NAME.log` beside `data`."""
        with (data.parent / f"{name}.log").open("ab") as log:
            command = tethered(self.command(words, data=data, variables=variables), death_signal=signal.SIGTERM)
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def end(self, name: str, *, within_s: float = 60.0) -> int:
        """Ask one to end, as a kubelet does; gives its exit status."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(within_s)

    def ended(self) -> list[str]:
        """Those that have ended by themselves."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def _buildah(self, *words: str) -> str:
        cache = os.environ.get("TANGO_IMAGE_CACHE") or str(
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tango-image"
        )
        command = ["buildah", "--root", f"{cache}/storage", "--runroot", f"{cache}/run", "--storage-driver", "vfs", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout.strip()
