"""1998 World Cup web site, requests per minute: a header `period,count`; minutes without a request have no row.

Source: M. Arlitt and T. Jin, "1998 World Cup Web Site Access Logs", August 1998, Internet Traffic Archive.
"""

from __future__ import annotations

import numpy as np

from tango.traces.columns import Columns
from tango.traces.rate_curve import MINUTE_S, RateCurve
from tango.traces.schema import SINCE_1990_NS, UNTIL_2200_NS, Field, Kind, Schema
from tango.traces.trace_format import Head, Sign, TraceFormat

_MINUTE_NS = int(MINUTE_S) * 10**9

SCHEMA = Schema(
    "worldcup98",
    (
        Field(
            "period",
            Kind.TIMESTAMP,
            required=True,
            low=SINCE_1990_NS,
            high=UNTIL_2200_NS,
            step=_MINUTE_NS,
            step_name="on the minute",
        ),
        Field("count", Kind.INT, required=True, low=0, high=1_000_000_000),
    ),
    header=True,
    ordered_by="period",
    each_once=True,
)


def curve_of(parts: list[Columns], source: str) -> RateCurve:
    """Counts per minute, in seconds from the first minute; counts of the same minute in several parts are added."""
    period_ns = np.concatenate([part.ints("period") for part in parts])
    count = np.concatenate([part.ints("count") for part in parts])
    minutes, index = np.unique(period_ns, return_inverse=True)
    total = np.zeros(len(minutes), np.int64)
    np.add.at(total, index, count)
    begin_s = (minutes - minutes[0]) / 1e9 if len(minutes) else np.zeros(0)
    return RateCurve(begin_s=begin_s, count=total, source=source)


def _recognised(head: Head) -> Sign:
    return Sign.SURE if "period" in head.names else Sign.NONE


FORMAT = TraceFormat(
    name=SCHEMA.format,
    recognised=_recognised,
    schema_of=lambda _content, _fleet: SCHEMA,
    content_of=curve_of,
)
