"""Spans by OpenTelemetry: implements `tango.ports.spans.Spans` on its SDK, which nothing else of Tango imports."""
