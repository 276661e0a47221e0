"""Advances the node model by the wall clock: one queue of events for arrivals, completions and answers, and one timer for all.

The asyncio loop's timers have a resolution of a millisecond, the model has microseconds. Every event therefore carries its exact time.
A timer that fires late delays an answer by up to a tick; it never falsifies a start of service, the order of events or a share of CPU.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable

import structlog

from tango.emulation.scheduled_calls import CallLater, Timer
from tango.node_model import NodeModel, NodeUsage
from tango.node_model.interference import NeighbourTraits

log = structlog.get_logger(__name__)

Ended = Callable[[float, float], None]
"""Called with start and finish on the timeline's clock."""
Step = Callable[[float], None]
"""Called with the time that it was scheduled for, on the timeline's clock."""

TICK_S = 0.001
"""Resolution of the event loop's timers."""
REANCHOR_EVERY_S = 1.0
"""Seconds after which the offset between the timeline's clock and Unix time is read again."""


class NodeTimeline:
    """The node models of one cluster. Its clock counts seconds from its creation; `unix_s` converts to Unix time.

    Invariant: before a method changes a node, everything that is due by now has happened on all nodes (`_catch_up`), so that changes
    never precede events of an earlier time.
    """

    def __init__(
        self,
        cpu_cores: list[float],
        *,
        beta: float,
        call_later: CallLater,
        traits: NeighbourTraits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.model = NodeModel(cpu_cores, beta=beta, traits=traits)
        self._call_later = call_later
        self._clock = clock
        self._wall = wall
        self._zero_s = clock()
        self._anchored_s = -math.inf
        self._unix_zero_s = 0.0
        self._steps: list[tuple[float, int, Step]] = []
        self._numbers = itertools.count(1)
        self._ended: dict[int, Ended] = {}
        self._timer: Timer | None = None
        self._timer_s = math.inf
        self._running = False
        self.broken = 0
        """Calls of steps and ends that raised, since the start. The request or pod of each is lost; all others go on."""

    def now_s(self) -> float:
        """The current time on the timeline's clock."""
        return self._clock() - self._zero_s

    def unix_s(self, at_s: float) -> float:
        """The Unix time of a time of the timeline's clock. The offset is renewed every second, since wall clocks are set and slewed."""
        now_s = self.now_s()
        if now_s - self._anchored_s > REANCHOR_EVERY_S:
            self._anchored_s = now_s
            self._unix_zero_s = self._wall() - now_s
        return self._unix_zero_s + at_s

    def at(self, at_s: float, step: Step) -> None:
        """Call `step` when the clock reaches `at_s`, in order of time with all other events."""
        heapq.heappush(self._steps, (at_s, next(self._numbers), step))
        if at_s < self._timer_s and not self._running:
            self._set_timer()

    # ---- instances and pods --------------------------------------------------------------------------------------------------

    def add_instance(self, node: int, *, limit_cores: float, memory_mib: float, concurrency: int, service: int = -1) -> int:
        """Start an LC instance on a node, of a row of the traits (-1: none); return its row in the model."""
        at_s = self._catch_up()
        return self.model.add_instance(
            node,
            limit_cores=limit_cores,
            memory_mib=memory_mib,
            concurrency=concurrency,
            at_s=self._not_before(node, at_s),
            service=service,
        )

    def resize_instance(self, node: int, row: int, *, limit_cores: float, memory_mib: float) -> None:
        """Change an instance's CPU and memory limits, effective now."""
        at_s = self._catch_up()
        self.model.resize_instance(node, row, limit_cores=limit_cores, memory_mib=memory_mib, at_s=self._not_before(node, at_s))
        self._set_timer()

    def remove_instance(self, node: int, row: int) -> None:
        """Stop an instance; its requests are discarded and their `ended` is never called."""
        at_s = self._catch_up()
        for key in self.model.remove_instance(node, row, at_s=self._not_before(node, at_s)):
            self._ended.pop(key, None)
        self._set_timer()

    def submit(self, node: int, row: int, work_s: float, memory_mib: float, at_s: float, ended: Ended) -> int:
        """Queue a request at an instance at time `at_s`; called from a step. Returns a handle for `cancel`.

        Raises: ValueError if the request needs more memory than the instance's limit.
        """
        key = next(self._numbers)
        handle = self.model.submit(node, row, key, work_s, memory_mib, self._not_before(node, at_s))
        self._ended[key] = ended
        if not self._running:
            self._set_timer()
        return handle

    def cancel(self, node: int, handle: int) -> None:
        """Remove a request whose `ended` has not been called."""
        key = int(self.model.states.requests["key"][handle])
        at_s = self._catch_up()
        # Catching up may have ended the request, and its row in the model may belong to another by now.
        if key in self._ended and self.model.cancel(handle, at_s=self._not_before(node, at_s)):
            del self._ended[key]
        self._set_timer()

    def add_pod(
        self, node: int, *, weight: float, limit_cores: float, work_s: float, memory_mib: float, ended: Ended, service: int = -1
    ) -> int:
        """Start a BE pod on a node, of a row of the traits (-1: none); return its key. `ended` is called when its work is done."""
        at_s = self._catch_up()
        key = next(self._numbers)
        self.model.add_pod(
            node,
            key,
            weight=weight,
            limit_cores=limit_cores,
            work_s=work_s,
            memory_mib=memory_mib,
            at_s=self._not_before(node, at_s),
            service=service,
        )
        self._ended[key] = ended
        self._set_timer()
        return key

    def resize_pod(self, node: int, key: int, *, weight: float, limit_cores: float) -> None:
        """Change a BE pod's CPU weight and limit; does nothing if the pod has ended."""
        at_s = self._catch_up()
        self.model.resize_pod(node, key, weight=weight, limit_cores=limit_cores, at_s=self._not_before(node, at_s))
        self._set_timer()

    def remove_pod(self, node: int, key: int) -> float | None:
        """Stop a BE pod; return the CPU-seconds of work that it had done, None if it has ended."""
        at_s = self._catch_up()
        done_s = self.model.remove_pod(node, key, at_s=self._not_before(node, at_s))
        if done_s is not None:
            self._ended.pop(key, None)
        self._set_timer()
        return done_s

    def usage(self, node: int) -> NodeUsage:
        """A node's CPU time so far and the memory that it holds now."""
        at_s = self._catch_up()
        usage = self.model.usage(node, at_s=self._not_before(node, at_s))
        self._set_timer()
        return usage

    # ---- time ------------------------------------------------------------------------------------------------------------

    def run_due(self) -> None:
        """Process all events that are due by now."""
        self._catch_up()
        self._set_timer()

    def _catch_up(self) -> float:
        """Process steps and model events up to now, in order of time, and return now.

        A step may change nodes: the call from inside finds `_running` set and returns at once, because the past is being processed.
        """
        now_s = self.now_s()
        if self._running:
            return now_s
        self._running = True
        try:
            while True:
                while self._steps and self._steps[0][0] <= now_s:
                    at_s, _, step = heapq.heappop(self._steps)
                    try:
                        step(at_s)
                    except Exception:
                        self._note_broken()
                # Each node's are in order of time; answers of all nodes go over one link, the first to end first.
                for _, _, key, started_s, finished_s, _ in sorted(self.model.finished(now_s), key=lambda ended: ended[4]):
                    ended = self._ended.pop(key, None)
                    try:
                        if ended is not None:
                            ended(started_s, finished_s)
                    except Exception:
                        self._note_broken()
                if self.model.next_event_s() > now_s and not (self._steps and self._steps[0][0] <= now_s):
                    return now_s
        finally:
            self._running = False

    def _note_broken(self) -> None:
        # Not raised: the other ends of this moment would be lost with it, and the timer would not be set again.
        self.broken += 1
        log.exception("timeline_step_broken", broken=self.broken)

    def _not_before(self, node: int, at_s: float) -> float:
        """The later of `at_s` and the node's clock, since a model cannot be changed in its past."""
        return max(at_s, self.model.clock_s(node))

    def _set_timer(self) -> None:
        if self._running:
            return
        next_s = self.model.next_event_s()
        if self._steps and self._steps[0][0] < next_s:
            next_s = self._steps[0][0]
        if next_s == self._timer_s:
            return
        if self._timer is not None:
            # A timer that fires too early is kept: finding nothing due costs less than a new timer for every request.
            if self._timer_s < next_s:
                return
            self._timer.cancel()
            self._timer = None
        self._timer_s = next_s
        if next_s < math.inf:
            # Rounded up to whole ticks, since a timer that fires before its time would have to be set again.
            wait_s = next_s - self.now_s()
            self._timer = self._call_later(math.ceil(wait_s / TICK_S) * TICK_S if wait_s > 0 else 0.0, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self.run_due()
