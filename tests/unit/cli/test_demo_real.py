"""The real work of the demo: what it declares, and the programs themselves."""

from __future__ import annotations

import json
import subprocess
import sys

from tango.cli.demo_real import GREET, PRIMES, _services
from tango.domain.services import ServiceClass
from tango.emulation.real.primes import primes_below


def test_the_demo_declares_a_service_and_a_job_that_run_here() -> None:
    """With this Python, by the path of a program that is there."""
    found = {service.name: service for service in _services()}

    assert {name: service.service_class for name, service in found.items()} == {GREET: ServiceClass.LC, PRIMES: ServiceClass.BE}
    for service in found.values():
        (container,) = json.loads(service.template)["spec"]["containers"]
        python, program = container["command"]
        assert python == sys.executable
        subprocess.run([python, "-m", "py_compile", program], check=True)


def test_primes_are_counted() -> None:
    """As in the tables."""
    assert [primes_below(end) for end in (0, 2, 3, 10, 1000, 2_000_000)] == [0, 0, 1, 4, 168, 148_933]
