"""Metrics for operators: where they are served, and how long reading them may take."""

from __future__ import annotations

from dataclasses import dataclass

from tango.settings.bounds import LONGEST_S, within


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """The scrape of one host."""

    host: str = "127.0.0.1"
    """Address on which figures are served. They name clusters, services and tasks, and nobody is asked for a login: loopback unless a
    firewall or a network policy stands before it."""
    port: int = 0
    """TCP port; 0: that of the last start, or any that is free."""
    deadline_s: float = 3.0
    """Seconds that a scrape waits for its parts; one that has not answered is left out and told by `tango_up`. Prometheus gives up after
    10 s."""
    reuse_s: float = 1.0
    """Seconds for which a reading is given to further scrapes, so that any number of them asks the database no more often."""
    qos_window_s: float = 300.0
    """Seconds over which `tango_qos_ratio` looks back: long enough for some requests of each service, short enough for an alert."""
    sample_s: float = 5.0
    """Seconds between two looks at the counters of processes, by which that window moves on."""

    def __post_init__(self) -> None:
        within(self, 0, 65_535, "port")
        within(self, 0.0, LONGEST_S, "deadline_s", "qos_window_s", "sample_s", above=True)
        within(self, 0.0, LONGEST_S, "reuse_s")
