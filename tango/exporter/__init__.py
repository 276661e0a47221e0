"""One scrape for Prometheus: what the store, the processes of this host, the brokers and the supervisor know, put together.

`parts.py` reads each part within a deadline, `qos_window.py` makes the one ratio that no counter is, `families.py` puts figures into the
form of `prometheus_client`, which writes them out and serves them. Where each part is read from, `tango.bootstrap.metrics` says.
"""

from tango.exporter.families import StackCollector
from tango.exporter.parts import Part, Parts
from tango.exporter.qos_window import QosWindow

__all__ = ["Part", "Parts", "QosWindow", "StackCollector"]
