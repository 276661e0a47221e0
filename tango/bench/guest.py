"""A kernel of its own for a program of a few modules: QEMU starts a Linux image with an initial file system made of what the program needs.

    kernel image (/boot, or a package) ─┐
    Python with the modules that the    ├─► qemu-system-x86_64 ─► serial line: one line of JSON
    program imports, busybox, arguments ┘

The program is a module with `run(arguments) -> result`, both plain JSON, that imports the standard library and Tango's own modules alone.
It runs as root, on control groups of version 2, with pressure stall information, and nothing else beside it. The processor is emulated:
what the kernel decides is the same, and everything takes some ten times as long.
"""

from __future__ import annotations

import gzip
import json
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tango.bench.children import answer_of
from tango.errors import ConfigError, DependencyError

QEMU = "qemu-system-x86_64"
ACCELERATOR = "tcg,thread=multi"
"""An emulated processor, a thread for each CPU: it is there everywhere, where /dev/kvm is on few machines, and on some of them hangs."""
MEMORY_MIB = 768
MARK = "TANGO-RESULT "
"""Before the line of the result."""
ROOT = Path(__file__).parent.parent.parent
INIT = """#!/bin/busybox sh
for folder in proc sys dev tmp; do /bin/busybox mkdir -p /$folder; done
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t tmpfs none /tmp
/bin/busybox mount -t cgroup2 none /sys/fs/cgroup
echo "+cpu +memory +cpuset" > /sys/fs/cgroup/cgroup.subtree_control
{python} -S -E -c '
import json, sys, traceback
sys.path.insert(0, "/app")
try:
    import {module} as program
    said = dict(result=program.run(json.load(open("/app/arguments.json"))))
except BaseException:
    said = dict(error=traceback.format_exc())
print("\\n{mark}" + json.dumps(said), flush=True)
'
/bin/busybox reboot -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What a program runs on."""

    kernel: Path
    cpus: int = 2
    within_s: float = 600.0
    """Seconds until it is given up."""

    def run(self, module: str, arguments: dict[str, Any]) -> Any:
        """The result of a program. Raises: DependencyError without QEMU, or if the guest does not come to an end; ConfigError without
        busybox; RuntimeError with the program's traceback.
        """
        qemu = shutil.which(QEMU)
        if qemu is None:
            raise DependencyError(f"{QEMU} is not installed; on Debian: apt-get install qemu-system-x86")
        with tempfile.TemporaryDirectory(prefix="tango-guest-") as folder:
            image = Path(folder) / "initramfs.gz"
            image.write_bytes(gzip.compress(initial_files(module, arguments), compresslevel=1))
            command = [qemu, "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-m", str(MEMORY_MIB)]
            command += ["-smp", str(self.cpus), "-kernel", str(self.kernel), "-initrd", str(image)]
            command += ["-accel", ACCELERATOR]
            command += ["-append", "console=ttyS0 quiet psi=1 panic=-1 cgroup_no_v1=all mitigations=off no_timer_check"]
            try:
                done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.within_s, check=False)
            except subprocess.TimeoutExpired as error:
                said = (error.stdout or b"").decode(errors="replace")
                raise DependencyError(f"the guest did not end within {self.within_s:g} s; it said: {said[-2000:]}") from error
        return _result(done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace"))


def installed_kernel() -> Path:
    """The newest kernel image of this machine. Raises: ConfigError if there is none that can be read."""
    images = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    if not images:
        raise ConfigError(
            "no kernel image /boot/vmlinuz-* is here; name one. On Debian `apt-get download` of the package that "
            "linux-image-cloud-amd64 depends on, and `dpkg-deb -x` of it, bring one without installing it"
        )
    return max(images, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])


def initial_files(module: str, arguments: dict[str, Any]) -> bytes:
    """The initial file system, a cpio archive: Python as it is here with the modules that the program imports, compiled; busybox; init.

    Raises: ConfigError without busybox; subprocess.CalledProcessError if the module cannot be imported by itself.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ConfigError("busybox is not installed; on Debian: apt-get install busybox-static")
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    files: dict[str, tuple[bytes, int]] = {
        "/init": (INIT.format(python=python, module=module, mark=MARK).encode(), 0o755),
        "/app/arguments.json": (json.dumps(arguments).encode(), 0o644),
    }
    binaries = [python]
    for name, source in _modules(python, module).items():
        if source.endswith(".so"):
            binaries.append(source)
            continue
        is_ours = name.split(".")[0] in ("tango", "tests")
        files[(f"/app/{Path(source).relative_to(ROOT)}" if is_ours else source) + "c"] = (_compiled(source), 0o644)
    for path in dict.fromkeys([*binaries, *(library for one in [*binaries, busybox] for library in _libraries(one))]):
        files[path] = (Path(path).read_bytes(), 0o755)
    files["/bin/busybox"] = (Path(busybox).read_bytes(), 0o755)
    # By it Python knows where its extension modules are, though perhaps it needs none.
    files[f"{Path(os.__file__).parent}/lib-dynload/.here"] = (b"", 0o644)
    return _cpio(files)


def _modules(python: str, module: str) -> dict[str, str]:
    """(name, file) of all modules that a program has loaded, in a process that has nothing but the standard library."""
    code = f"""
import json, sys, traceback
sys.path.insert(0, {str(ROOT)!r})
import {module}
print(json.dumps({{n: m.__file__ for n, m in sys.modules.items() if getattr(m, "__file__", None)}}))
"""
    return answer_of([python, "-S", "-E", "-B", "-c", code], within_s=60.0)


def _compiled(source: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".pyc") as file:
        py_compile.compile(
            source, file.name, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH, quiet=2
        )
        return Path(file.name).read_bytes()


def _libraries(binary: str) -> list[str]:
    """Shared libraries that a binary needs, with the loader; none for a static one."""
    done = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False, timeout=60)
    return re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout)


def _cpio(files: dict[str, tuple[bytes, int]]) -> bytes:
    """An archive in the format `newc`. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst."""
    folders = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "/"}
    entries: list[tuple[str, bytes, int]] = [(folder, b"", stat.S_IFDIR | 0o755) for folder in sorted(folders)]
    entries += [(path, content, stat.S_IFREG | mode) for path, (content, mode) in files.items()]
    entries.append(("/TRAILER!!!", b"", 0))
    archive = bytearray()
    for number, (path, content, mode) in enumerate(entries, 1):
        name = path[1:].encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _result(output: str) -> Any:
    lines: Sequence[str] = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        raise DependencyError(f"the guest ended without a result; it said: {output[-2000:]}")
    said = json.loads(lines[-1].removeprefix(MARK))
    if "error" in said:
        raise RuntimeError(f"the program failed in the guest:\n{said['error']}")
    return said["result"]
