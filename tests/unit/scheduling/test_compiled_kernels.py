"""Kernels are compiled at their first call, kept where they can be, and all of them before a process says that it is ready."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

import tango
from tango.compiled import compiled, in_place, inlined, sources_digest
from tango.sim.engine import run_windows

ROOT = Path(tango.__file__).parent.parent
COUNT_CACHED = """
from tango.scheduling.lc.expected_time import time_on_node_s as kernel
before = len(kernel.entry.signatures)
kernel(0.1, 1.0, 4.0, 2.0)
print(before, len(kernel.entry.signatures), sum(kernel.entry.stats.cache_hits.values()), kernel.entry.stats.cache_path)
"""
COUNT_WARM = """
import sys
import numpy as np
from tango.compiled import Kernel
from tango.domain.observations import InstanceState
from tango.fleets.catalog import load_fleet
from tango.scheduling import warm_up
warm_up()
def counted():
    return {
        f"{name}.{key}": len(value.entry.signatures)
        for name, module in list(sys.modules.items()) if name.startswith(("tango.scheduling.", "tango.node_model."))
        for key, value in vars(module).items() if isinstance(value, Kernel)
    }
before = counted()
from tests.unit.scheduling.test_lc_dispatch import arrivals_of, snapshot_of
from tests.unit.scheduling.test_sharing import N1, SERVICES, SETTINGS, NOW_S, eviction, instance, capacity, tail
from tango.domain.smallest import smallest_pending
from tango.scheduling.be_kueue import place_kueue
from tango.scheduling.be_policies import place_kube, place_kube_packed, place_load_greedy, place_scoring
from tango.scheduling.lc.rule import LC_RULES
from tango.scheduling.sharing import plan_sharing
from tango.settings import BeSettings, LcSettings
snapshot = snapshot_of([500.0, 500.0, 0.0], [0, 0, 1])
for plan in LC_RULES.values():
    plan(arrivals_of(5), snapshot, LcSettings())
for place in (place_load_greedy, place_scoring, place_kube, place_kube_packed, place_kueue):
    place(smallest_pending(), snapshot, BeSettings())
plan_sharing(
    SERVICES, [("c1", instance())], tail(90.0), {N1: capacity(4000, be=3650, evictable=[(eviction(1), 300)])}, {}, NOW_S, SETTINGS
)
after = counted()
print(len(before), *(key for key in after if after[key] != before.get(key, 0)))
"""
COUNT_NODE_MODEL = """
import random
from tango.compiled import Kernel
from tango.node_model import NodeModel, kernel, warm_up
warm_up()
def counted():
    return {key: len(value.entry.signatures) for key, value in vars(kernel).items() if isinstance(value, Kernel) and "entry" in vars(value)}
before = counted()
draw, at_s = random.Random(4), 0.0
model = NodeModel([2.0, 4.0], beta=0.2)
rows = [model.add_instance(n, limit_cores=1.0, memory_mib=8.0, concurrency=4, at_s=0.0) for n in (0, 1)]
for key in range(300):
    at_s += draw.expovariate(20.0)
    node = key % 2
    handle = model.submit(node, rows[node], key, draw.uniform(0.0, 0.2), 1.0, at_s)
    match draw.randrange(8):
        case 0: model.cancel(handle, at_s=at_s)
        case 1: model.finished(at_s)
        case 2: model.usage(node, at_s=at_s + 0.01); at_s += 0.01
        case 3: model.add_pod(node, key, weight=1.0, limit_cores=1.0, work_s=0.1, memory_mib=1.0, at_s=at_s)
        case 4: model.resize_pod(node, key - 1, weight=2.0, limit_cores=0.5, at_s=at_s)
        case 5: model.remove_pod(node, key - 2, at_s=at_s)
        case 6: model.resize_instance(node, rows[node], limit_cores=draw.uniform(0.5, 2.0), memory_mib=8.0, at_s=at_s)
model.remove_instance(0, rows[0], at_s=at_s)
after = counted()
print(len(before), *(key for key in after if after[key] != before.get(key, 0)))
"""


def run(script: str, **environment: str) -> list[str]:
    """Run a script in a process of its own; give the words it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.split()


def test_a_kernel_is_compiled_at_its_first_call() -> None:
    """Importing compiles nothing; the first call compiles for its types, a second one of the same types does not."""

    @compiled
    def twice(x: float) -> float:
        return 2 * x

    assert len(twice.entry.signatures) == 0  # type: ignore[attr-defined]
    assert (twice(4.0), twice(5.0)) == (8.0, 10.0)
    assert len(twice.entry.signatures) == 1  # type: ignore[attr-defined]


def test_a_kernel_that_only_kernels_call_is_not_compiled_for_python() -> None:
    """What takes arguments out of Python objects is most of what there is to compile; who calls from Python after all, gets it then."""

    @in_place
    def twice(x: float) -> float:
        return 2 * x

    @in_place
    def four_times(x: float) -> float:
        return twice(twice(x))

    assert four_times(1.0) == 4.0
    assert len(twice.part.signatures) == 1  # type: ignore[attr-defined]
    assert len(twice.entry.signatures) == len(four_times.part.signatures) == 0  # type: ignore[attr-defined]
    assert twice(1.5) == 3.0


def test_a_kernel_that_kernels_call_is_compiled_once_for_all_integers() -> None:
    """Row numbers of 8, 16, 32 and 64 bits, constants, counters: one machine code. What does not fit into int64 stays as it is."""

    @in_place
    def itself(row: int) -> int:
        return row

    @in_place
    def added_up(small: NDArray[np.int8], medium: NDArray[np.int32], large: NDArray[np.int64], marks: NDArray[np.uint8]) -> int:
        found = itself(small[0]) + itself(medium[0]) + itself(large[0]) + itself(marks[0]) + itself(7)
        for k in range(2):
            found += itself(k)
        return found

    @in_place
    def of_bits(bits: NDArray[np.uint64]) -> int:
        return itself(bits[0])

    rows = [np.array([-3], kind) for kind in (np.int8, np.int32, np.int64)]
    assert added_up(*rows, np.array([200], np.uint8)) == -3 - 3 - 3 + 200 + 7 + 0 + 1
    assert len(itself.part.signatures) == 1  # type: ignore[attr-defined]
    assert of_bits(np.array([2**63], np.uint64)) == 2**63
    assert len(itself.part.signatures) == 2  # type: ignore[attr-defined]


def test_a_second_process_takes_the_machine_code_from_the_cache(tmp_path: Path) -> None:
    """Only the first process of an installation compiles."""
    first = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))
    second = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))

    assert first[:3] == ["0", "1", "0"]
    assert second[:3] == ["0", "1", "1"]
    assert second[3].startswith(str(tmp_path))


READ_ONLY = """
import errno, os, tempfile
def refuse(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")
tempfile.TemporaryFile = refuse
"""


def test_machine_code_beside_the_source_is_taken_where_nothing_can_be_written(tmp_path: Path) -> None:
    """An image ships it: a container with a read-only root would compile for minutes at every start."""
    (tmp_path / "shipped.py").write_text("from tango.compiled import compiled\n\n\n@compiled\ndef twice(x):\n    return 2.0 * x\n")
    script = (
        "from shipped import twice as kernel\n{}kernel(1.5)\n{}"
        "print(sum(kernel.entry.stats.cache_hits.values()), len(kernel.entry.signatures), kernel.entry.stats.cache_path)\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}

    run(script.format("", ""), **environment)
    shipped = run(script.format(READ_ONLY, ""), **environment)
    another_type = run(script.format(READ_ONLY, "kernel(2)\n"), **environment)

    assert shipped == ["1", "1", str(tmp_path / "__pycache__")]
    assert another_type[:2] == ["1", "2"]


def test_an_index_of_machine_code_that_cannot_be_read_is_stale(tmp_path: Path) -> None:
    """An update may have renamed the class of an argument, which the index of the old code still names: compile again, and keep it."""
    run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))
    for index in tmp_path.rglob("*.nbi"):
        with index.open("rb") as file:
            version = pickle.load(file)
        index.write_bytes(pickle.dumps(version) + b"ctango.compiled\nGone\n.")

    after_the_update = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))
    later = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))

    assert after_the_update[:3] == ["0", "1", "0"]
    assert later[:3] == ["0", "1", "1"]


def test_machine_code_is_stale_when_anything_changed_that_its_module_imports(tmp_path: Path) -> None:
    """A kernel holds the code of the kernels it calls, and of their constants, wherever these stand; other modules do not matter."""
    root = tmp_path / "tango"
    (root / "sim").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "sim/__init__.py": "",
        "sim/engine.py": "from __future__ import annotations\nfrom tango.sim import heap\n",
        "sim/heap.py": "import numpy as np\nfrom tango.sim.codes import (\n    FIRST,\n    SECOND,\n)\n",
        "sim/codes.py": "FIRST, SECOND = 0, 1\n",
        "sim/views.py": "from tango.sim.engine import run\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    before = sources_digest("tango.sim.engine", root)

    def after_change_of(name: str) -> str:
        (root / name).write_text(files[name] + "# changed\n")
        sources_digest.cache_clear()
        changed = sources_digest("tango.sim.engine", root)
        (root / name).write_text(files[name])
        return changed

    assert all(after_change_of(name) != before for name in ("sim/engine.py", "sim/heap.py", "sim/codes.py", "sim/__init__.py"))
    assert after_change_of("sim/views.py") == before


def test_the_cache_of_a_kernel_is_stamped_with_what_it_imports() -> None:
    """The engine's machine code belongs to one state of all its parts."""
    stamp = run_windows.entry._cache._cache_file._source_stamp  # type: ignore[attr-defined]

    assert stamp[-1] == sources_digest("tango.sim.engine") != sources_digest("tango.scheduling.lc.dispatch")


@pytest.mark.parametrize("decorate", [compiled, in_place, inlined])
def test_a_kernel_without_any_writable_cache_folder_is_compiled_all_the_same(decorate: type[compiled]) -> None:
    """A container with a read-only root and no home must still import."""
    namespace: dict[str, object] = {}
    # Numba finds no folder for a function that lies in no file, as it finds none where nothing can be written.
    exec("def thrice(x):\n    return 3 * x\n", namespace)

    kernel = decorate(namespace["thrice"])  # type: ignore[arg-type]

    assert kernel(2.0) == 6.0
    assert not kernel.entry.stats.cache_path


@pytest.mark.parametrize("error", [KeyError, TypeError])
@pytest.mark.parametrize("decorate", [in_place, inlined])
def test_kernels_do_without_options_that_numba_no_longer_has(
    decorate: type[in_place], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options that make them fast are undocumented: a Numba that refuses them compiles the plain kernel."""
    refused: list[str] = []

    def later_numba(**options: object) -> object:
        unknown = sorted(options.keys() & {"_nrt", "forceinline"})
        refused.extend(unknown)
        if unknown:
            raise error(unknown[0])
        return numba.njit(**options)

    def halved(x: float) -> float:
        return x / 2

    # There is no other way to meet a Numba that is not there yet.
    monkeypatch.setattr("tango.compiled.njit", later_numba)
    kernel = decorate(halved)

    assert kernel(3.0) == 1.5
    assert "_nrt" in refused


def test_an_error_that_is_not_about_the_cache_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the missing folder is worked around."""

    def broken(**options: object) -> object:
        raise RuntimeError("out of registers")

    monkeypatch.setattr("tango.compiled.njit", broken)

    kernel = compiled(lambda x: x)

    with pytest.raises(RuntimeError, match="out of registers"):
        kernel(1.0)


def test_warming_up_leaves_nothing_to_compile() -> None:
    """After it, LC dispatch, BE placement and a round of sharing find every kernel compiled for the types they call it with."""
    kernels, *compiled_late = run(COUNT_WARM, PYTHONPATH=str(ROOT))

    assert compiled_late == []
    assert int(kernels) > 20


def test_warming_up_the_node_model_leaves_nothing_to_compile() -> None:
    """A kubelet that compiles while it serves answers nobody meanwhile: whatever is asked of its nodes has been compiled before."""
    kernels, *compiled_late = run(COUNT_NODE_MODEL)

    assert compiled_late == []
    assert int(kernels) >= 8
