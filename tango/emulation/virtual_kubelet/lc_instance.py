"""One LC instance: requests reach the node model after the network's delay, and their answers leave after it."""

from __future__ import annotations

from collections.abc import Callable

from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.workload.http1 import Refused, Served, Work, WorkConnection


class LcInstance:
    """Implements `Instance` of the workload protocol; `node` and `row` name it in the node model, row -1 once it has stopped."""

    __slots__ = (
        "_network",
        "_timeline",
        "connections",
        "key",
        "killed_beyond",
        "largest_memory_mib",
        "name",
        "node",
        "row",
        "stopping",
        "under_way",
    )

    def __init__(
        self,
        timeline: NodeTimeline,
        network: ClusterNetwork,
        *,
        name: str,
        node: int,
        row: int,
        largest_memory_mib: float,
        key: str = "",
    ) -> None:
        self._timeline = timeline
        self._network = network
        self.name = name
        self.key = key
        self.node = node
        self.row = row
        self.largest_memory_mib = largest_memory_mib
        self.stopping = False
        self.killed_beyond: tuple[float, Callable[[], None]] | None = None
        """(MiB, what happens) if its requests together hold more; None: they cannot."""
        self.connections: set[WorkConnection] = set()
        self.under_way = 0

    def begin(self, work: Work, served: Served, refused: Refused) -> Callable[[], None]:
        """Take a request; gives a function that cancels it. There follows `served` with its times, `refused` where the instance no
        longer has its memory, or neither if it is cut off.

        Raises: ValueError if it needs more memory than the instance has.
        """
        if work.memory_mib > self.largest_memory_mib:
            raise ValueError(f"{work.memory_mib} MiB asked of an instance of {self.largest_memory_mib} MiB")
        call = _Call(self, work, served, refused)
        self.under_way += 1
        self._timeline.at(self._network.arrival_s(work.entry_cluster, work.payload_kib, self._timeline.now_s()), call.arrive)
        return call.cancel

    def hang_up(self) -> None:
        """Close every connection; requests in flight are not answered."""
        for connection in list(self.connections):
            connection.close()


class _Call:
    """One request on its way through network, node model and network."""

    __slots__ = ("_finished_s", "_handle", "_instance", "_over", "_refused", "_served", "_started_s", "_work")

    def __init__(self, instance: LcInstance, work: Work, served: Served, refused: Refused) -> None:
        self._instance = instance
        self._work = work
        self._served = served
        self._refused = refused
        self._handle = -1
        self._over = False
        self._started_s = 0.0
        self._finished_s = 0.0

    def arrive(self, at_s: float) -> None:
        """Submit the request to the node model; called when it has reached the node."""
        if self._over:
            return
        instance, work = self._instance, self._work
        if instance.row < 0:
            self._end()
            return
        try:
            self._handle = instance._timeline.submit(
                instance.node, instance.row, work.cpu_work_s, work.memory_mib, at_s, self._finish
            )
        except ValueError:  # the instance's memory has shrunk since `begin`
            self._end()
            self._refused()
            return
        if instance.killed_beyond is not None:
            most_mib, kill = instance.killed_beyond
            if instance._timeline.model.instance_load(instance.node, instance.row)[2] > most_mib:
                kill()

    def _finish(self, started_s: float, finished_s: float) -> None:
        instance = self._instance
        self._handle = -1
        self._started_s, self._finished_s = started_s, finished_s
        answer_s = instance._network.answer_s(self._work.entry_cluster, self._work.payload_kib, finished_s)
        instance._timeline.at(answer_s, self._answer)

    def _answer(self, at_s: float) -> None:
        if self._over:
            return
        self._end()
        unix_s = self._instance._timeline.unix_s
        self._served(unix_s(self._started_s), unix_s(self._finished_s))

    def cancel(self) -> None:
        """Withdraw the request from the model; called when its client has disconnected."""
        if self._over:
            return
        self._end()
        if self._handle >= 0 and self._instance.row >= 0:
            self._instance._timeline.cancel(self._instance.node, self._handle)

    def _end(self) -> None:
        self._over = True
        self._instance.under_way -= 1
