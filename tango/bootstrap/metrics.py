"""The scrape of one host, composed of what this process can reach: the store, the processes here, the brokers, the supervisor."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tango
from tango.control.repeating import Repeating
from tango.errors import DependencyError
from tango.exporter import Part, Parts, QosWindow
from tango.exporter.processes import counted
from tango.exporter.serving import Listener, serve
from tango.settings import Settings
from tango.stack.process_figures import ProcessFigures
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.operating import OperatingFigures
from tango.telemetry import METRICS_DIR
from tango.telemetry.catalogue import BUILD
from tango.telemetry.readings import Readings

BrokerFigures = Callable[[Sequence[str]], Readings]
"""What reads the brokers, given the names of all clusters."""


class Exporter:
    """Reads all parts, and looks at the counters of processes every few seconds, whether anybody scrapes or not."""

    def __init__(self, settings: Settings, home: Path, brokers: BrokerFigures | None, *, clusters: Sequence[str] = ()) -> None:
        """`clusters`: those whose queues are looked at where the store does not tell of any."""
        self._settings, self._clusters = settings.metrics, tuple(clusters)
        parts = list[Part]()
        self._fleet: PostgresFleetStore | None = None
        if settings.database_url:
            database = Database(settings.database_url, deadline_s=settings.metrics.deadline_s)
            self._fleet = PostgresFleetStore(database, settings.sharing, settings.lease)
            parts.append(Part("store", OperatingFigures(database).read))
        self._folder = Path(os.environ[METRICS_DIR]) if os.environ.get(METRICS_DIR) else None
        if self._folder is not None:
            parts.append(Part("processes", self._counted))
        if brokers is not None:
            parts.append(Part("broker", lambda: brokers(self._known())))
        if (home / "run" / "status.json").exists():
            parts.append(Part("stack", ProcessFigures(home).read))
        self._parts = Parts(parts, settings.metrics)
        self._window = QosWindow(window_s=settings.metrics.qos_window_s)
        self._sampling = Repeating("qos-window", self._sample)

    def serve(self) -> Listener:
        """Begin to look, and to answer."""
        if self._folder is not None:
            self._sampling.start()
        return serve(self.read, host=self._settings.host, port=self._settings.port)

    def read(self) -> Readings:
        """All series as they are now: what one scrape gets."""
        found = self._parts.read()
        found.merge(self._window.ratios())
        found.add(BUILD, (tango.__version__,), 1.0)
        return found

    def _counted(self) -> Readings:
        return counted(self._folder) if self._folder is not None else Readings()

    def _sample(self) -> float:
        self._window.note(self._counted(), now_s=time.monotonic())
        return self._settings.sample_s

    def _known(self) -> tuple[str, ...]:
        """The clusters whose queues are looked at: as the store told last, however it is now."""
        if self._fleet is not None:
            with contextlib.suppress(DependencyError):
                self._clusters = tuple(row.name for row in self._fleet.clusters())
        return self._clusters
