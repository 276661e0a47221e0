"""Where the spans of this process go: nowhere, unless a setting says which share of requests is to have a trace."""

from __future__ import annotations

from tango.errors import ConfigError
from tango.ports.spans import NO_SPANS, Spans
from tango.settings import TracingSettings


def spans_of(role: str, settings: TracingSettings) -> Spans:
    """Those of a process of this role, such as `gateway`; made after a fork. OpenTelemetry is loaded only where traces are on.

    Raises: ConfigError where they are, and it is not installed.
    """
    if settings.ratio <= 0.0:
        return NO_SPANS
    try:
        from tango.tracing.exported import ExportedSpans
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("opentelemetry"):
            raise
        raise ConfigError(
            f"TANGO_TRACING_RATIO is {settings.ratio:g}, and OpenTelemetry is not installed: pip install 'tango-edge[traces]', or unset "
            "the variable"
        ) from error
    return ExportedSpans(f"tango-{role}", settings)
