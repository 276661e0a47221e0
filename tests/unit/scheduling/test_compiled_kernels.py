"""Kernels are compiled when their module is imported, wherever the package lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from numba.core.dispatcher import Dispatcher

import tango
from tango.scheduling import warm_up
from tango.scheduling.compiled import compiled

ROOT = Path(tango.__file__).parent.parent
COUNT_CACHED = """
import tango.scheduling, numba
from tango.scheduling import lc_flow
kernel = lc_flow.marginal_s
print(len(kernel.signatures), sum(kernel.stats.cache_hits.values()), kernel.stats.cache_path)
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


def test_a_kernel_is_compiled_before_its_first_call() -> None:
    """The signature is explicit: decorating compiles."""

    @compiled("f8(f8)")
    def twice(x: float) -> float:
        return 2 * x

    assert len(twice.signatures) == 1  # type: ignore[attr-defined]
    assert twice(4.0) == 8.0


def test_a_second_process_takes_the_machine_code_from_the_cache(tmp_path: Path) -> None:
    """Only the first process of an installation compiles."""
    first = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))
    second = run(COUNT_CACHED, NUMBA_CACHE_DIR=str(tmp_path))
    assert first[:2] == ["1", "0"]
    assert second[:2] == ["1", "1"]
    assert second[2].startswith(str(tmp_path))


def test_a_kernel_without_any_writable_cache_folder_is_compiled_all_the_same() -> None:
    """A container with a read-only root and no home must still import."""
    namespace: dict[str, object] = {}
    # Numba finds no folder for a function that lies in no file, as it finds none where nothing can be written.
    exec("def thrice(x):\n    return 3 * x\n", namespace)
    kernel = compiled("f8(f8)")(namespace["thrice"])  # type: ignore[arg-type,var-annotated]
    assert kernel(2.0) == 6.0


def test_warming_up_leaves_nothing_to_compile() -> None:
    """Every kernel has its machine code once the module is imported, and running the policies adds none."""
    kernels = [
        value
        for name, module in sys.modules.items()
        if name.startswith("tango.scheduling.")
        for value in vars(module).values()
        if isinstance(value, Dispatcher)
    ]
    before = [len(kernel.signatures) for kernel in kernels]
    warm_up()
    assert kernels
    assert before == [1] * len(kernels) == [len(kernel.signatures) for kernel in kernels]
