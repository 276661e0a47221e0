"""Load without a fault, for as long as one likes: what grows?"""

from __future__ import annotations

from tango.bench.chaos.books import Books, StackLooks
from tango.bench.chaos.load import await_end, submit_load, until
from tango.bench.chaos.stack import ChaosStack
from tango.bench.figures import Figure, Told
from tango.bench.process_use import MIB, memory_mib, open_descriptors
from tango.errors import TangoError


def load_alone(stack: ChaosStack, seconds: float, told: Told) -> list[Figure]:
    """Load without a fault, and what has grown from its first tenth to its end."""
    run_id, zero_s = submit_load(stack, seconds, name="calm", seed=1)
    with Books(StackLooks(stack.home, run_id)) as books:
        until(zero_s + seconds / 10)
        before = _growing(stack)
        until(zero_s + seconds)
        after = _growing(stack)
        _, late = await_end(stack, run_id, zero_s + seconds)
    mistakes = late + books.mistakes
    told(f"{seconds:.0f} s of load: {books.looks} looks, {'all held' if not mistakes else '; '.join(mistakes[:3])}")
    if mistakes:
        raise TangoError("what must hold did not: " + "; ".join(mistakes[:20]))
    return [
        Figure(
            name=f"{what} after {seconds:.0f} s of load",
            value=value,
            unit=unit,
            yardstick="after a tenth of that",
            yardstick_value=before[what][0],
        )
        for what, (value, unit) in after.items()
        if what in before
    ]


def _growing(stack: ChaosStack) -> dict[str, tuple[float, str]]:
    """What must not grow with time, and what grows with history alone: values and units by name."""
    found = {f"memory, {role}": (sum(sizes), "MiB") for role, sizes in memory_mib(stack.home).items()}
    found |= {f"descriptors, {role}": (float(count), "") for role, count in open_descriptors(stack.home).items()}
    logs = [file for file in (stack.home / "logs").iterdir() if file.is_file()]
    found["logs"] = sum(file.stat().st_size for file in logs) / MIB, "MiB"
    found["journals"] = sum(file.stat().st_size for file in (stack.home / "data" / "journals").iterdir()) / MIB, "MiB"
    with stack.stores() as here:
        [(size, requests)] = here.database.rows(
            "SELECT pg_database_size(current_database()), (SELECT count(*) FROM request WHERE state IN ('succeeded', 'failed'))"
        )
    found["database"] = size / MIB, "MiB"
    found["requests done"] = float(requests), ""
    return found
