"""A sweep in memory: its store, its messages, the results this host has kept, and a worker that computes by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tango.analysis.comparison import CellLabel, CellResult, cell_result
from tango.analysis.metrics import run_metrics
from tango.control.simulation_worker import Compute, Simulated, SimulationWorker
from tango.control.sweeps import Sweep, SweepCell, SweepOrder
from tango.domain.simulations import ClaimedSimulation, NewSimulation, SimulationProgress
from tango.settings import LeaseSettings
from tango.sim.outcomes import SimulatedRun
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.memory_state import MemoryState
from tests.fakes.publisher import RecordingPublisher
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING, outcomes_of
from tests.fakes.simulations import MemorySimulationStore

SETTINGS = LeaseSettings(placement_s=60.0, unclaimed_after_s=2.0)
CELL = NewSimulation(
    key="k",
    cell={},
    name="p3@0.8",
    system="tango",
    fleet="pair",
    fleet_hash="f" * 64,
    seed=7,
    trace_source="p3@0.8 100s",
    span_s=100.0,
    settings={},
)


def _result() -> CellResult:
    outcomes = outcomes_of([{"due": 20.0, "start": 20.1, "end": 20.5}, {"due": 30.0, "start": 30.1, "end": 33.0}])
    metrics = run_metrics(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)
    run = SimulatedRun(
        outcomes=outcomes,
        losses=NO_LOSSES,
        samples=NO_SAMPLES,
        decisions=NO_DECISIONS,
        scaling=NO_SCALING,
        digest="d" * 64,
        events=4,
        took_s=0.5,
    )
    label = CellLabel(scenario="p3@0.8", system="tango", lc="dss-lc", be="dcg-be", sharing="hrm", seed=7, key="k")
    return cell_result(run, metrics, label, bound={"lc_qos_rate": 0.9})


RESULT = _result()


RESULT = _result()


def computed(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
    """Any cell has this result."""
    return Simulated(result=RESULT, rows=None)


def fails(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
    """No cell has a result."""
    raise ValueError("no")


def cells(count: int) -> list[SweepCell]:
    """Different ones; this host keeps the result of the first under `here-0`."""
    return [SweepCell(key=f"here-{k}", simulation=replace(CELL, key=str(k), seed=k)) for k in range(count)]


class MemoryResults:
    """Implements `tango.control.sweeps.ResultFolder`."""

    def __init__(self) -> None:
        self.results: dict[str, CellResult] = {}

    def find(self, key: str) -> CellResult | None:
        """Look."""
        return self.results.get(key)

    def keep(self, result: CellResult) -> None:
        """Put."""
        self.results[result.key] = result


@dataclass
class SweepWorld:
    """Nothing is ordered yet; `sleep` is what happens while the command waits."""

    store: MemorySimulationStore = field(default_factory=MemorySimulationStore)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    kept: MemoryResults = field(default_factory=MemoryResults)
    checkpoints: MemoryCheckpointStore = field(default_factory=lambda: MemoryCheckpointStore(MemoryState()))

    def sweep(self, sleep: Callable[[float], None] = lambda _s: None) -> Sweep:
        """The command's side."""
        return Sweep(
            simulations=self.store,
            checkpoints=self.checkpoints,
            publisher=self.publisher,
            kept=self.kept,
            settings=SETTINGS,
            sleep=sleep,
        )

    def order(self, asked: Sequence[SweepCell]) -> SweepOrder:
        """As a command orders them."""
        return self.sweep().order(asked, record=False, forget=False)

    def ordered(self, count: int = 1) -> list[int]:
        """The runs of so many new cells."""
        return sorted(self.order(cells(count)).new)

    def work(self, run_id: int, compute: Compute = computed, *, settings: LeaseSettings = SETTINGS) -> dict[str, int | str]:
        """A worker takes the run's message."""
        return SimulationWorker(store=self.store, compute=compute, settings=settings, owner="me").work(run_id)

    def awaited(self, run_ids: Sequence[int], sleep: Callable[[float], None]) -> list[SimulationProgress]:
        """The states in which the command sees the runs end."""
        return list(self.sweep(sleep).ended(run_ids, nobody=lambda: None))
