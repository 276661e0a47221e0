"""One LC instance behind its address: requests come over the network's delays into the node model, answers go back the same way."""

from __future__ import annotations

from collections.abc import Callable

from tango.emulation.virtual_kubelet.engine import Engine
from tango.emulation.virtual_kubelet.network import ClusterNetwork
from tango.emulation.workload.http1 import Served, Work, WorkConnection


class LcInstance:
    """The `Instance` of the protocol; `node` and `row` are its place in the node model."""

    __slots__ = ("_engine", "_network", "connections", "largest_memory_mib", "name", "node", "row", "stopping", "under_way")

    def __init__(
        self, engine: Engine, network: ClusterNetwork, *, name: str, node: int, row: int, largest_memory_mib: float
    ) -> None:
        self._engine = engine
        self._network = network
        self.name = name
        self.node = node
        self.row = row
        self.largest_memory_mib = largest_memory_mib
        self.stopping = False
        self.connections: set[WorkConnection] = set()
        self.under_way = 0

    def begin(self, work: Work, served: Served) -> Callable[[], None]:
        """Send a request on its way. Raises: ValueError for more memory than the instance has."""
        if work.memory_mib > self.largest_memory_mib:
            raise ValueError(f"{work.memory_mib} MiB asked of an instance of {self.largest_memory_mib} MiB")
        call = _Call(self, work, served)
        self.under_way += 1
        self._engine.at(self._network.arrival_s(work.entry_cluster, work.payload_kib, self._engine.now_s()), call.arrive)
        return call.cancel

    def hang_up(self) -> None:
        """Close every connection; what was under way is never answered."""
        for connection in list(self.connections):
            connection.close()


class _Call:
    """One request between the wire and the node model."""

    __slots__ = ("_finished_s", "_handle", "_instance", "_over", "_served", "_started_s", "_work")

    def __init__(self, instance: LcInstance, work: Work, served: Served) -> None:
        self._instance = instance
        self._work = work
        self._served = served
        self._handle = -1
        self._over = False
        self._started_s = 0.0
        self._finished_s = 0.0

    def arrive(self, at_s: float) -> None:
        """The request is at the node."""
        if self._over:
            return
        instance, work = self._instance, self._work
        if instance.row < 0:
            self._end()
            return
        try:
            self._handle = instance._engine.submit(
                instance.node, instance.row, work.cpu_work_s, work.memory_mib, at_s, self._finish
            )
        except ValueError:
            # The instance has shrunk since the request was taken: its client sees the connection go.
            self._end()
            instance.hang_up()

    def _finish(self, started_s: float, finished_s: float) -> None:
        instance = self._instance
        self._handle = -1
        self._started_s, self._finished_s = started_s, finished_s
        answer_s = instance._network.answer_s(self._work.entry_cluster, self._work.payload_kib, finished_s)
        instance._engine.at(answer_s, self._answer)

    def _answer(self, at_s: float) -> None:
        if self._over:
            return
        self._end()
        unix_s = self._instance._engine.unix_s
        self._served(unix_s(self._started_s), unix_s(self._finished_s))

    def cancel(self) -> None:
        """The client has gone."""
        if self._over:
            return
        self._end()
        if self._handle >= 0 and self._instance.row >= 0:
            self._instance._engine.cancel(self._instance.node, self._handle)

    def _end(self) -> None:
        self._over = True
        self._instance.under_way -= 1
