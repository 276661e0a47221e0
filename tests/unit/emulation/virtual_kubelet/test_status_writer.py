from __future__ import annotations

import asyncio

from tango.emulation.virtual_kubelet.status_writer import StatusWriter
from tango.errors import ClusterUnavailable, Forbidden, Invalid, NotFound


class Server:
    """Takes states when `gate` is open; `failures` come first."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.state = 0
        self.written: list[tuple[str, int]] = []
        self.failures: list[Exception] = []

    async def write(self, uid: str) -> None:
        """Write the state that holds now."""
        state = self.state
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.written.append((uid, state))


async def test_states_that_pile_up_are_written_once_and_in_order() -> None:
    """While one write is under way, all newer states become one."""
    server = Server()
    writer = StatusWriter(server.write)

    for state in range(5):
        server.state = state
        writer.touch("a")
        await asyncio.sleep(0)
    server.gate.set()
    await writer.written("a")

    assert server.written == [("a", 0), ("a", 4)]


async def test_a_server_that_does_not_answer_or_refuses_is_asked_again() -> None:
    """Nothing that was to be said is lost: RBAC that is not loaded and tokens that have expired are states of the cluster."""
    server = Server()
    server.gate.set()
    server.failures = [ClusterUnavailable("away"), Forbidden("RBAC is not loaded"), ClusterUnavailable("away")]
    writer = StatusWriter(server.write, again_after_s=0.0)

    writer.touch("a")
    await writer.written("a")

    assert server.written == [("a", 0)]


async def test_a_pod_that_is_gone_refused_or_broken_does_not_block_later_states() -> None:
    """The writer goes on with the next state, and who waits for it goes on too."""
    server = Server()
    server.gate.set()
    writer = StatusWriter(server.write)
    for failure in (NotFound("gone"), Invalid("no"), ZeroDivisionError("a defect")):
        server.failures = [failure]
        writer.touch("a")
        await writer.written("a")

    writer.touch("a")
    await writer.written("a")

    assert server.written == [("a", 0)]


async def test_a_dropped_pod_is_not_written_any_more() -> None:
    """Its writer ends after what is under way."""
    server = Server()
    writer = StatusWriter(server.write)
    writer.touch("a")
    await asyncio.sleep(0)

    writer.touch("a")
    writer.drop("a")
    server.gate.set()
    await writer.written("a")

    assert server.written == [("a", 0)]
