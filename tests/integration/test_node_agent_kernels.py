"""The node agent on real kernels: this host's, of whichever version it has, and Debian's own with version 2 in an emulated machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tango.bench.guest import QEMU, Guest
from tango.bench.kernel_pods import kernel_node
from tango.cgroups.groups import Hierarchy
from tango.cgroups.knobs import Knob
from tango.errors import ConfigError
from tests.integration.kernel_checks import CHECKS
from tests.long import LONG

CGROUPS = Path("/sys/fs/cgroup")
KERNEL_VARIABLE = "KERNEL_IMAGE"
CACHE = Path(__file__).parent.parent.parent / "build" / "kernel"


def why_not_here() -> str:
    """Why no control group of this host can be changed; empty: they can."""
    try:
        hierarchy = Hierarchy.mounted(CGROUPS)
        hierarchy.check_writable()
    except ConfigError as error:
        return str(error)
    if hierarchy.version == 2:
        return "version 2 is tried in a machine of its own: here a service manager may own the groups"
    return "" if os.access(CGROUPS / "memory" / "cgroup.procs", os.W_OK) else "the memory controller is not there, or not writable"


@pytest.mark.skipif(bool(why_not_here()), reason=why_not_here() or "can be changed")
@pytest.mark.parametrize("name", CHECKS)
def test_the_kernel_of_this_host_accounts_what_was_set(name: str) -> None:
    """Version 1, as old nodes have it."""
    assert CHECKS[name](CGROUPS)


WITHOUT_RIGHTS = """
import json, pathlib, sys
from tango.cgroups.groups import Hierarchy
from tango.cgroups.knobs import Knob
from tango.node_agent.agent import NodeAgent
from tango.node_agent.ledger import Ledger
from tango.settings import NodeAgentSettings

root, state, pods = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
assert "CapEff:\\t0000000000000000" in pathlib.Path("/proc/self/status").read_text()
hierarchy = Hierarchy.mounted(root)
hierarchy.check_writable()
agent = NodeAgent(hierarchy, Ledger(hierarchy, state), NodeAgentSettings(), cpu_millicores=2000, clock=lambda: 0.0)
for pod in pods:
    agent.see(pod)
agent.step()
assert agent.report().as_json()["differs"] == []
"""


@pytest.mark.skipif(bool(why_not_here()), reason=why_not_here() or "can be changed")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv (util-linux)")
def test_no_capability_is_needed(tmp_path: Path) -> None:
    """The chart drops all of them: that the files of control groups belong to root is enough."""
    with kernel_node(CGROUPS) as node:
        lc, be = node.pod("lc", cpu=500, memory_mib=64), node.pod("be", cpu=500, memory_mib=64)
        lc.ask(cpu=700)
        told = json.dumps([lc.body, be.body])
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", WITHOUT_RIGHTS]

        done = subprocess.run(
            [*command, str(CGROUPS), str(tmp_path / "agent.json"), told], capture_output=True, text=True, check=False, timeout=120
        )

        assert done.returncode == 0, done.stderr
        assert (be.pod.read(Knob.CPU_IDLE), lc.container.read(Knob.CPU_QUOTA)) == (1, 70_000)


def kernel_image() -> Path:
    """Debian's newest cloud kernel, from its package, kept in `build/`; another one where the variable names it. Skips without."""
    if named := os.environ.get(KERNEL_VARIABLE):
        return Path(named)
    found = sorted(CACHE.glob("boot/vmlinuz-*"))
    if found:
        return found[-1]
    if shutil.which("apt-get") is None:
        pytest.skip(f"no kernel image: set {KERNEL_VARIABLE}")
    CACHE.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=False).stdout
    package = next((line.split()[-1] for line in listed.splitlines() if "Depends: linux-image-" in line), "")
    fetched = subprocess.run(["apt-get", "download", package or "linux-image-cloud-amd64"], cwd=CACHE, check=False, timeout=300)
    packages = list(CACHE.glob("linux-image-*.deb"))
    if fetched.returncode or not packages:
        pytest.skip(f"no kernel image: the package {package or 'linux-image-cloud-amd64'} cannot be had; set {KERNEL_VARIABLE}")
    subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(CACHE)], check=True, timeout=300)
    packages[0].unlink()
    return next(CACHE.glob("boot/vmlinuz-*"))


@pytest.mark.skipif(not LONG, reason="takes minutes; make test-long")
@pytest.mark.timeout(1500)
def test_a_kernel_of_its_own_accounts_what_was_set() -> None:
    """Version 2 with pressure stall information: agent and programs are packed into its initial file system."""
    missing = [name for name in (QEMU, "busybox") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; on Debian: apt-get install qemu-system-x86 busybox-static")

    seen = Guest(kernel=kernel_image(), within_s=1200).run("tests.integration.kernel_checks", {"root": str(CGROUPS)})

    assert set(seen) == set(CHECKS)
    print(seen)
