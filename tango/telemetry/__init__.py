"""What operators see of Tango from outside: the catalogue of metrics, and the figures that processes count themselves.

`catalogue.py` names every metric once; code, scrape, reference page, dashboards and alerts are held to it. `tallies.py` counts in memory
that a file keeps, so that counting costs no system call, a killed process loses nothing, and its successor goes on counting where it
stopped. `slots.py` has these files: as many as processes run at a time, however often they are restarted. `tango.exporter` reads them.
Standard library only, since every process has it.
"""

from tango.telemetry.catalogue import CATALOGUE, LABELS, Metric, MetricKind, Source
from tango.telemetry.readings import Readings
from tango.telemetry.tallies import METRICS_DIR, count, observe, put

__all__ = ["CATALOGUE", "LABELS", "METRICS_DIR", "Metric", "MetricKind", "Readings", "Source", "count", "observe", "put"]
