"""A validation that nothing could fail would prove nothing: faults in the kernel are planted, and found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tango

PACKAGE = Path(tango.__file__).parent
KERNEL = "node_model/kernel.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One line of `tango/node_model/kernel.py` that is made wrong."""

    name: str
    before: str
    after: str
    group: str
    """The group of cells that has to fail."""


MUTATIONS = (
    Mutation(
        name="a request alone has all cores of its instance",
        before="        instance.cores = min(float(instance.in_service), instance.limit_cores) * scale\n",
        after="        instance.cores = instance.limit_cores\n",
        group="cores shared",
    ),
    Mutation(
        name="a request that joins others is served what they have had already",
        before="        request.ends_at_attained_s = instance.attained_s + request.work_s\n",
        after="        request.ends_at_attained_s = max(0.9 * instance.attained_s, instance.attained_s - 1.0) + request.work_s\n",
        group="cores shared",
    ),
    Mutation(
        name="one more request is in service than there are places",
        before="    while instance.queue_first != NONE and instance.in_service < instance.concurrency:\n",
        after="    while instance.queue_first != NONE and instance.in_service <= instance.concurrency:\n",
        group="first come",
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_line_that_is_made_wrong_stands_once_in_the_kernel(mutation: Mutation) -> None:
    """Else the fault is planted nowhere, and that it is found says nothing."""
    assert (PACKAGE / KERNEL).read_text(encoding="utf-8").count(mutation.before) == 1


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_in_the_kernel_fails_the_validation(mutation: Mutation, tmp_path: Path) -> None:
    """In the shortened form already. The engine is compiled anew for each, which takes a minute."""
    copy = shutil.copytree(PACKAGE, tmp_path / "tango", ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    source = (PACKAGE / KERNEL).read_text(encoding="utf-8")
    (copy / KERNEL).write_text(source.replace(mutation.before, mutation.after), encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "-c", "from tango.cli.main import run; run()", "validate", "--short", mutation.group, "-o", "json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "do not agree with theory" in ran.stderr
    assert "fails" in [cell["verdict"] for cell in json.loads(ran.stdout)]
