"""Traces: readers of public traces, Tango's own files, seeded generators, and the mapping on a fleet's services.

    files -> csv_columns | structured_columns -> columns.checked
          -> google2011 | google2019 | alibaba2018 | azure_llm2023 | own_format
          -> Trace -> transforms -> mapping -> NewRequests

Everything works on whole columns. `reading.read_trace` is the way in.
"""

from tango.traces.own_format import write_trace
from tango.traces.reading import FORMATS, Reading, TraceInfo, info_of, read_trace

__all__ = ["FORMATS", "Reading", "TraceInfo", "info_of", "read_trace", "write_trace"]
