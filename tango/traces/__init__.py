"""Traces: readers of public traces, Tango's own files, seeded generators, and the mapping on a fleet's services.

    files -> csv_columns | structured_columns -> columns.checked
          -> one file for each format, listed in `formats`
          -> Trace -> transforms -> mapping -> NewRequests

Everything works on whole columns. `reading.read_trace` is the way in.
"""

from tango.traces.formats import FORMATS
from tango.traces.own_format import write_trace
from tango.traces.reading import Reading, TraceInfo, info_of, read_trace

__all__ = ["FORMATS", "Reading", "TraceInfo", "info_of", "read_trace", "write_trace"]
