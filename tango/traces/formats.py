"""The trace formats that can be read: each is one file of this package and one line here; kin share a file."""

from __future__ import annotations

from tango.traces import (
    alibaba2017,
    alibaba2018,
    alibaba_genai2026,
    alibaba_gpu2023,
    azure_functions2019,
    azure_functions2021,
    azure_llm,
    google2011,
    google2011_jobs,
    google2019,
    own_format,
    worldcup98,
)
from tango.traces.trace_format import TraceFormat

FORMATS: dict[str, TraceFormat] = {
    found.name: found
    for found in (
        own_format.FORMAT,
        google2011.FORMAT,
        google2011_jobs.FORMAT,
        google2019.FORMAT,
        alibaba2017.FORMAT,
        alibaba2018.FORMAT,
        alibaba_gpu2023.FORMAT,
        alibaba_genai2026.FORMAT,
        *azure_functions2019.TABLES,
        azure_functions2021.FORMAT,
        *azure_llm.YEARS,
        worldcup98.FORMAT,
    )
}
"""The formats by their names, in order of preference: of formats that are equally sure of a file, the first reads it."""
