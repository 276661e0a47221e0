"""Every tunable with its unit and the reason for its default. The environment is read once, by `tango.bootstrap.environment`.

`whole` has all groups in one, and the addresses of database, broker and clusters; each other module has the groups of one topic.
"""

from tango.settings.callers import CallSettings, GatewaySettings, JobSettings
from tango.settings.clusters import JournalSettings, KubeSettings, NodeAgentSettings, RefusalSettings
from tango.settings.decisions import BeSettings, LcSettings, OutlierSettings, SharingSettings
from tango.settings.metrics import MetricsSettings
from tango.settings.runs import CancelSettings, HostSettings, LeaseSettings, ReplaySettings, StoreSettings, TickSettings
from tango.settings.simulation import SimSettings
from tango.settings.whole import Settings

__all__ = [
    "BeSettings",
    "CallSettings",
    "CancelSettings",
    "GatewaySettings",
    "HostSettings",
    "JobSettings",
    "JournalSettings",
    "KubeSettings",
    "LcSettings",
    "LeaseSettings",
    "MetricsSettings",
    "NodeAgentSettings",
    "OutlierSettings",
    "RefusalSettings",
    "ReplaySettings",
    "Settings",
    "SharingSettings",
    "SimSettings",
    "StoreSettings",
    "TickSettings",
]
