"""Every tunable with its unit and the reason for its default. The environment is read once, by `tango.bootstrap.environment`.

`whole` has all groups in one, and the addresses of database, broker and clusters; each other module has the groups of one topic. A group is
imported when it is first asked for here. What a simulation is made of names the modules of its groups, so that its results depend on no
others (`tango.experiments.cells`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tango.settings.callers import CallSettings, GatewaySettings, JobSettings
    from tango.settings.clusters import JournalSettings, KubeSettings, NodeAgentSettings, RefusalSettings
    from tango.settings.decisions import BeSettings, LcSettings, OutlierSettings, SharingSettings
    from tango.settings.explaining import ExplainSettings
    from tango.settings.metrics import MetricsSettings
    from tango.settings.runs import (
        CancelSettings,
        HostSettings,
        LeaseSettings,
        ReplaySettings,
        RetentionSettings,
        StoreSettings,
        TickSettings,
    )
    from tango.settings.simulated import SimulationSettings
    from tango.settings.simulation import SimSettings
    from tango.settings.tenants import TenantSettings
    from tango.settings.tracing import TracingSettings
    from tango.settings.whole import Settings

__all__ = [
    "BeSettings",
    "CallSettings",
    "CancelSettings",
    "ExplainSettings",
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
    "RetentionSettings",
    "Settings",
    "SharingSettings",
    "SimSettings",
    "SimulationSettings",
    "StoreSettings",
    "TenantSettings",
    "TickSettings",
    "TracingSettings",
]

_MODULES = (
    "decisions",
    "runs",
    "simulation",
    "simulated",
    "callers",
    "clusters",
    "explaining",
    "metrics",
    "tenants",
    "tracing",
    "whole",
)
"""Where groups are looked for, in this order: those of decisions first, so that who asks for one of them loads no other."""


def __getattr__(name: str) -> type:
    """The group of this name. Raises: AttributeError for a name that is none."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}")).get(name)
            if isinstance(found, type):
                globals()[name] = found  # the next time it is a name like any other
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
