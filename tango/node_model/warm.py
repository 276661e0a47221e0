"""Calls every step of the node model once, so that a process that serves by it compiles none of them while it serves."""

from __future__ import annotations

from tango.node_model.model import NodeModel


def warm_up() -> None:
    """Milliseconds where the machine code is cached, seconds where it is not."""
    model = NodeModel([1.0], beta=0.1)
    row = model.add_instance(0, limit_cores=1.0, memory_mib=2.0, concurrency=1, at_s=0.0)
    for key in range(3):
        model.submit(0, row, key, 0.1, 1.0, 0.0)
    handle = model.submit(0, row, 3, 0.1, 1.0, 0.0)
    model.cancel(handle, at_s=0.0)
    model.add_pod(0, 4, weight=1.0, limit_cores=1.0, work_s=9.0, memory_mib=1.0, at_s=0.0)
    model.resize_pod(0, 4, weight=1.0, limit_cores=0.5, at_s=0.0)
    model.resize_instance(0, row, limit_cores=0.5, memory_mib=2.0, at_s=0.0)
    model.usage(0, at_s=0.5)  # by now a request has ended, whose end nobody has asked for
    model.finished(1.0)
    model.remove_pod(0, 4, at_s=1.0)
    model.remove_instance(0, row, at_s=1.0)
