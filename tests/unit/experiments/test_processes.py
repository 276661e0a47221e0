"""Processes that compute for this one, and an interrupt that comes while they start."""

from __future__ import annotations

import os
import signal

from tango.experiments.processes import on_signal, process_pool, uninterrupted


def is_deaf() -> bool:
    """Whether an interrupt of this process waits; one is sent, which would end it otherwise."""
    os.kill(os.getpid(), signal.SIGINT)
    return signal.SIGINT in signal.sigpending()


def test_an_interrupt_while_processes_start_is_taken_all_the_same_and_is_not_for_them() -> None:
    """It must not be lost, however busy the machine: whoever presses Ctrl-C would wait for the end of a training of hours."""
    taken: list[int] = []

    with process_pool(2, __name__) as pool, on_signal(signal.SIGINT, lambda number, _frame: taken.append(number)):
        with uninterrupted():
            found = [pool.submit(is_deaf) for _ in range(2)]
            os.kill(os.getpid(), signal.SIGINT)
        deaf = [future.result(timeout=60) for future in found]

    assert taken == [signal.SIGINT]
    assert deaf == [True, True]
